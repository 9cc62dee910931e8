"""modelmgr beside other systems; each needs a package of its own (an extra) and imports it late."""
