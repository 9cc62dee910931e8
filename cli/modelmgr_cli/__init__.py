"""The command line of modelmgr: it parses, makes one library call and renders the answer."""
