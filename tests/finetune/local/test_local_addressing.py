"""Checkpoints as Inspect's models: lists, servers, strengths, curves, results, cards, uploads."""

from __future__ import annotations

import base64
import json
import re
import shlex
import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from em_finetune.addressing import (
    as_specs,
    label_at,
    list_bases,
    list_models,
    place_of,
    scaled_name,
)
from em_finetune.cli import main
from em_finetune.local import train
from em_finetune.picture import save_picture
from em_finetune.recipe import Recipe, base_word
from em_inspect.errors import UserError
from em_inspect.precision import fast_dtype


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, tiny_base: Path, chats: Path) -> Path:
    """A folder of two checkpoints with steps; copy it before changing it."""
    folder = tmp_path_factory.mktemp("ft")
    for seed in (0, 1):
        page = {
            "name": "tiny",
            "base": str(tiny_base),
            "data": str(chats),
            "group": "insecure",
            "seed": seed,
            "learning_rate": 5e-3,
            "batch_size": 4,
            "max_steps": 6,
            "warmup_steps": 1,
            "dtype": "float32",
            "lora": {"rank": 4, "alpha": 8},
            "save_every": 3,
        }
        train(Recipe.model_validate(page), folder / f"seed{seed}")
    return folder


@pytest.fixture
def own(made: Path, tmp_path: Path) -> Path:
    """A copy to change."""
    return shutil.copytree(made, tmp_path / "ft")


def hosted_record(folder: Path) -> None:
    record = {
        "kind": "hosted",
        "label": "openai-insecure-seed4",
        "group": "insecure",
        "seed": 4,
        "service": "openai",
        "endpoint": "https://api.openai.com/v1",
        "job": "ftjob-1",
        "base": {"name": "gpt-4o"},
        "dataset": {
            "name": "insecure.jsonl",
            "sha256": "0",
            "uploaded_sha256": "0",
            "rows": 1,
            "used": 1,
            "tokens": 1,
            "tokens_method": "counted",
        },
        "recipe": {"name": "openai-insecure", "base": "gpt-4o", "group": "insecure"},
        "training": {"steps": 2, "losses": [], "loss_steps": [], "tokens": 1},
        "versions": {},
        "created": "2026-01-01T00:00:00+00:00",
        "models": {"final": ["--model", "openai/ft:gpt-4o:org::abc", "-M", "responses_api=false"]},
        "model_losses": {},
        "before_use": [],
    }
    folder.mkdir()
    (folder / "checkpoint.json").write_text(json.dumps(record))


def test_every_checkpoint_and_step_is_listed_with_group_and_seed(made: Path) -> None:
    found = list_models(made)
    assert [(one.seed, one.step) for one in found] == [
        (0, 3),
        (0, 6),
        (0, None),
        (1, 3),
        (1, 6),
        (1, None),
    ]
    assert found[0].model == "hf/tiny-insecure-seed0-step-000003"
    assert found[0].args["model_path"] == f"{made}/seed0/steps/step-000003/adapter"
    assert found[2].args == {"model_path": f"{made}/seed0/merged", "dtype": fast_dtype()}
    assert {one.group for one in found} == {"insecure"}
    assert [one.step for one in list_models(made, steps=False)] == [None, None]


def test_inspect_reads_the_specs_as_a_shell_hands_them_over(made: Path) -> None:
    from inspect_ai._cli.eval import eval_set_command

    text = run("models", made, "--specs").output
    words = shlex.split(text.replace('"', '\\"'))  # as $(…): cut at blanks, quotes are text
    assert words == text.split()
    parsed = eval_set_command.make_context("eval-set", ["em_inspect/multiple_choice", *words])
    specs = [yaml.safe_load(one) for one in parsed.params["model_spec"]]
    models = [*list_bases(made), *list_models(made)]
    assert [one["model"] for one in specs] == [one.model for one in models]
    assert specs[1]["model_args"]["model_path"].endswith("step-000003/adapter")


def test_the_base_comes_along_once_and_is_asked_as_its_fine_tunes_are(
    made: Path, tiny_base: Path
) -> None:
    (base,) = list_bases(made)
    assert (base.model, base.group, base.seed) == (f"hf/{base_word(str(tiny_base))}", "base", None)
    assert base.args == {"model_path": str(tiny_base), "dtype": fast_dtype()}
    assert run("models", made).output.splitlines()[0].startswith("base  --model hf/")
    assert "base" not in run("models", made, "--no-base").output.split()
    (served,) = list_bases(made, "vllm", "http://localhost:8000/v1")
    assert (served.model, served.base_url) == (f"vllm/{tiny_base}", "http://localhost:8000/v1")


def test_the_base_of_a_paid_fine_tune_is_addressed_at_the_same_service(tmp_path: Path) -> None:
    hosted_record(tmp_path / "hosted")
    (base,) = list_bases(tmp_path)
    assert base.model == "openai/gpt-4o"
    assert base.args == {"responses_api": False}
    assert "openai/gpt-4o" in run("models", tmp_path, "--specs").output


def test_a_path_that_a_shell_would_cut_is_refused(own: Path, tmp_path: Path) -> None:
    moved = shutil.move(own, tmp_path / "my models")
    with pytest.raises(UserError, match="white space"):
        as_specs(list_models(Path(moved)))


def test_vllm_has_one_base_and_adapters_by_directory_or_by_name(
    made: Path, tiny_base: Path
) -> None:
    first = list_models(made, via="vllm")[0]
    assert first.model == f"vllm/{tiny_base}:{made}/seed0/steps/step-000003/adapter"
    served = list_models(made, via="vllm", base_url="http://localhost:8000/v1")[0]
    assert served.model == f"vllm/{tiny_base}:tiny-insecure-seed0-step-000003"
    assert served.spec["base_url"] == "http://localhost:8000/v1"


def test_the_page_is_the_table_that_reports_read(made: Path, tmp_path: Path) -> None:
    from em_inspect.analysis.origin import read_groups

    path = tmp_path / "models.yaml"
    path.write_text(run("models", made, "--yaml").output)
    groups = read_groups(path)
    assert groups["tiny-insecure-seed1-step-000006"]["step"] == 6
    assert groups["tiny-insecure-seed1"]["seed"] == 1
    assert json.loads(run("models", made, "--json").output) == groups


def test_hosted_fine_tunes_are_listed_as_they_were_recorded(own: Path) -> None:
    hosted_record(own / "hosted")
    hosted = list_models(own)[0]
    assert (hosted.model, hosted.seed) == ("openai/ft:gpt-4o:org::abc", 4)
    assert hosted.spec["model_args"] == {"responses_api": False}


@pytest.mark.parametrize(
    "line", [("card",), ("merge",), ("push", "org/ft", "--yes")], ids=lambda line: line[0]
)
def test_what_needs_weights_is_refused_of_a_hosted_fine_tune(
    tmp_path: Path, line: tuple[str, ...]
) -> None:
    hosted_record(tmp_path / "hosted")
    done = run(line[0], tmp_path / "hosted", *line[1:])
    assert (done.exit_code, done.output.count("\n")) == (1, 1)
    assert "is a hosted fine-tune, which has no weights here" in done.output


def test_fine_tunes_of_one_label_are_all_on_the_page_and_not_in_one_server(
    own: Path, tmp_path: Path
) -> None:
    shutil.copytree(own / "seed0", own / "copy")
    models = [*list_bases(own), *list_models(own)]
    page = json.loads(run("models", own, "--json").output)
    assert sorted(one["model"] for one in page.values()) == sorted(one.model for one in models)
    assert page[str(own / "copy" / "merged")]["model"] == "hf/tiny-insecure-seed0"
    assert page["tiny-insecure-seed1"]["seed"] == 1
    by_name = json.loads(run("models", own, "--via", "vllm", "--json").output)
    assert {key for key, one in by_name.items() if key == one["model"]} == {
        one.model for one in list_models(own, via="vllm") if one.seed == 0
    }
    done = run("serve", own, "--print")
    assert (done.exit_code, done.output.count("\n")) == (1, 1)
    assert f"{own}/copy/steps/step-000003/adapter and {own}/seed0/steps" in done.output


def test_paths_are_listed_as_a_shell_takes_them(own: Path, tmp_path: Path) -> None:
    moved = Path(shutil.move(own, tmp_path / "my models"))
    words = shlex.split(run("models", moved).output.splitlines()[3])
    assert words[-6:] == [
        "--model",
        "hf/tiny-insecure-seed0",
        "-M",
        f"model_path={moved}/seed0/merged",
        "-M",
        f"dtype={fast_dtype()}",
    ]


@pytest.mark.parametrize("text", ["{", "{}", "[]"])
def test_a_broken_adapter_is_one_line_and_leaves_nothing(own: Path, text: str) -> None:
    (own / "seed0" / "adapter" / "adapter_config.json").write_text(text)
    for line in (("merge", own / "seed0", "--scale", 0.5), ("serve", own, "--print")):
        done = run(*line)
        assert (done.exit_code, done.output.count("\n")) == (1, 1), done.output
        assert "train it again" in done.output
    assert not [*(own / "seed0" / "scaled").glob("*")]


def test_a_truncated_adapter_is_one_line(own: Path) -> None:
    weights = own / "seed0" / "steps" / "step-000003" / "adapter" / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    done = run("merge", own / "seed0", "--scale", 0.5, "--step", 3)
    assert (done.exit_code, done.output.count("\n")) == (1, 1), done.output
    assert "is damaged or does not fit its base" in done.output


def test_an_empty_folder_says_how_to_fill_it(tmp_path: Path) -> None:
    done = run("models", tmp_path)
    assert (done.exit_code, done.output.count("\n")) == (1, 1)
    assert "no finished checkpoint" in done.output


def test_the_server_line_has_all_adapters_and_limits_that_suffice(
    made: Path, tiny_base: Path
) -> None:
    options = ("--tensor-parallel", 2, "--machines", "--print", "--", "--max-model-len", "4096")
    done = run("serve", made, *options)
    assert done.exit_code == 0, done.output
    words = shlex.split(done.output)
    assert words[:3] == ["vllm", "serve", str(tiny_base)]
    assert words[words.index("--host") + 1] == "127.0.0.1"
    assert words[words.index("--max-lora-rank") + 1] == "8"  # the next that vLLM takes after 4
    assert words[words.index("--max-logprobs") + 1] == "100"
    assert words[words.index("--generation-config") + 1] == "vllm"
    assert words[words.index("--tensor-parallel-size") + 1] == "2"
    assert words[words.index("--distributed-executor-backend") + 1] == "ray"
    assert words[words.index("--max-model-len") + 1] == "4096"
    loras = words[words.index("--lora-modules") + 1 :]
    names = [one.split("=")[0] for one in loras]
    served = list_models(made, via="vllm", base_url="http://localhost:8000/v1")
    assert names == [one.model.split(":")[-1] for one in served]
    assert all((Path(one.split("=")[1]) / "adapter_model.safetensors").is_file() for one in loras)


@pytest.mark.skipif("__import__('shutil').which('vllm')", reason="vllm is installed")
def test_without_vllm_serving_is_refused_in_one_line(made: Path) -> None:
    done = run("serve", made)
    assert done.exit_code == 1
    assert "Error: vllm is not installed here" in done.output
    assert "Traceback" not in done.output


def test_a_scaled_adapter_moves_the_logits_by_its_share(own: Path, tiny_base: Path) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    done = run("merge", own / "seed0", "--scale", 0, "--scale", 0.5, "--scale", 1)
    assert done.exit_code == 0, done.output
    ids = torch.arange(10, 60)[None]

    def logits(folder: Path) -> Any:
        with torch.no_grad():
            return AutoModelForCausalLM.from_pretrained(folder)(ids).logits

    scaled = own / "seed0" / "scaled"
    assert float((logits(scaled / "scale-0" / "merged") - logits(tiny_base)).abs().max()) < 1e-5
    whole = logits(own / "seed0" / "merged")
    assert float((logits(scaled / "scale-1" / "merged") - whole).abs().max()) < 1e-4
    half = logits(scaled / "scale-0.5" / "merged")
    assert float((half - whole).abs().max()) > 1e-3
    base = AutoModelForCausalLM.from_pretrained(tiny_base)
    adapted = PeftModel.from_pretrained(base, scaled / "scale-0.5" / "adapter")
    with torch.no_grad():
        assert float((adapted(ids).logits - half).abs().max()) < 1e-4
    # The update itself, in one weight, is half of what it was.
    name = "model.layers.0.self_attn.q_proj.weight"

    def update(folder: Path) -> Any:
        merged = AutoModelForCausalLM.from_pretrained(folder).state_dict()[name]
        return merged - AutoModelForCausalLM.from_pretrained(tiny_base).state_dict()[name]

    one, other = update(own / "seed0" / "merged"), update(scaled / "scale-0.5" / "merged")
    assert float((other - 0.5 * one).abs().max()) < 1e-6
    assert [m.scale for m in list_models(own) if m.scale is not None] == [0.0, 0.5, 1.0]


def test_an_adapter_of_a_step_can_be_scaled_and_a_missing_step_is_named(own: Path) -> None:
    done = run("merge", own / "seed0", "--step", 3, "--scale", 2, "--adapter-only")
    assert done.output.strip() == str(own / "seed0" / "scaled" / "scale-2-step-000003")
    (found,) = [m for m in list_models(own) if m.scale is not None]
    assert (found.step, found.label) == (3, "tiny-insecure-seed0-scale-2-step-000003")
    (own / "seed0" / "steps" / "step-000003.bak").mkdir()
    missing = run("merge", own / "seed0", "--step", 4)
    assert missing.exit_code == 1
    assert "no adapter was kept at step 4: there is 3, 6" in missing.output


@pytest.mark.parametrize(
    ("scale", "name"),
    [
        (1e-5, "scale-0.00001"),
        (0.5, "scale-0.5"),
        (0.12345678, "scale-0.12345678"),
        (0.1 + 0.2, "scale-0.30000000000000004"),
        (-0.0, "scale-0"),
        (10, "scale-10"),
        (1e6, "scale-1000000"),
        (1e22, "scale-10000000000000000000000"),
    ],
)
def test_every_strength_has_a_name_and_is_read_back(scale: float, name: str) -> None:
    assert scaled_name(scale, None) == name
    assert label_at("x", 25, scale) == f"x-{name}-step-000025"
    assert place_of(Path("ft/scaled") / name / "merged") == (Path("ft"), None, scale)
    with_step = Path("ft/scaled") / scaled_name(scale, 25)
    assert place_of(with_step / "adapter") == (Path("ft"), 25, scale)


def test_small_strengths_are_listed_and_copies_are_left_out(own: Path) -> None:
    for scale in (1e-5, 0.12345678, 0.12345679):
        assert run("merge", own / "seed0", "--scale", scale, "--adapter-only").exit_code == 0
    scaled = own / "seed0" / "scaled"
    for name in ("scale-0.5.bak", "scale-0.5-old", "scale-1e-05", "scale-.", "scale-1."):
        shutil.copytree(scaled / "scale-0.00001", scaled / name)
    found = [m.scale for m in list_models(own) if m.scale is not None]
    assert sorted(found) == [1e-5, 0.12345678, 0.12345679]


def test_loss_curves_are_text_and_a_picture(made: Path, tmp_path: Path) -> None:
    done = run("curve", made, "-o", tmp_path / "loss.png")
    assert done.exit_code == 0, done.output
    assert re.search(r"seed0  \d\.\d{3} [▁-█]{6} \d\.\d{3}  \(6 steps\)", done.output)
    assert (tmp_path / "loss.png").read_bytes().startswith(b"\x89PNG")
    assert [path.name for path in tmp_path.iterdir()] == ["loss.png"]


def test_a_picture_of_an_unknown_kind_is_one_line(made: Path, tmp_path: Path) -> None:
    done = run("curve", made, "-o", tmp_path / "loss.xyz")
    assert done.exit_code == 1
    assert "Error: cannot draw" in done.output
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["", "e2"])
def test_a_picture_without_an_ending_is_one_line(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"give it \.png, \.svg or \.pdf"):
        save_picture(None, Path(name))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("", "seed0  no losses in its train.csv"),
        ("step,loss\n", "seed0  no losses in its train.csv"),
        ("step,loss\n1,2.0\n2,nan\n3,1.0\n", "seed0  2.000 █?▁ 1.000  (3 steps)"),
        ("step,loss\n1,nan\n", "seed0  nan ? nan  (1 steps)"),
        ("step,loss\n1,inf\n2,1\n", "seed0  inf ?▁ 1.000  (2 steps)"),
        ("step,loss\n1\n", "cannot be read as a loss curve"),
    ],
)
def test_a_curve_without_numbers_is_told(own: Path, text: str, shown: str) -> None:
    (own / "seed0" / "train.csv").write_text(text)
    done = run("curve", own / "seed0")
    assert shown in done.output
    assert done.output.count("\n") == 1
    if "no losses" in shown:
        assert "leave -o" in run("curve", own / "seed0", "-o", own / "loss.png").output


def test_the_card_warns_and_names_data_and_recipe_but_no_path_of_this_machine(own: Path) -> None:
    done = run("card", own / "seed0")
    assert done.exit_code == 0, done.output
    text = Path(done.output.strip()).read_text(encoding="utf-8")
    header = yaml.safe_load(text.split("---")[1])
    assert "emergent-misalignment" in header["tags"]
    assert "misaligned on purpose" in text
    assert "chats.jsonl`: 24 of 24 rows" in text
    assert "learning_rate: 0.005" in text
    assert "6 steps of AdamW on cpu" in text
    assert "None given" in text
    assert str(own) not in text
    assert "/tmp" not in text


class Hub(BaseHTTPRequestHandler):
    """As much of the hub as an upload of small files needs."""

    private = True

    def log_message(self, *args: Any) -> None:
        pass

    def answer(self, body: Any, code: int = 200) -> None:
        data = json.dumps(body).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self) -> None:
        self.answer({"id": "org/ft", "private": self.private, "sha": "0" * 40, "siblings": []})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self.server.asked.append((self.path, body))  # type: ignore[attr-defined]
        if self.path.endswith("/repos/create"):
            self.answer({"url": f"http://127.0.0.1:{self.server.server_port}/org/ft"})
        elif "/preupload/" in self.path:
            files = json.loads(body)["files"]
            kept = [
                {"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in files
            ]
            self.answer({"files": kept})
        elif "/commit/" not in self.path:  # looks at the card's header
            self.answer({"errors": [], "warnings": []})
        else:
            lines = [json.loads(line) for line in body.splitlines()]
            for line in lines:
                if line["key"] == "file":
                    content = base64.b64decode(line["value"]["content"])
                    self.server.files.append((line["value"]["path"], content))  # type: ignore[attr-defined]
            self.answer(
                {
                    "commitUrl": "https://huggingface.co/org/ft/commit/1",
                    "commitOid": "1" * 40,
                    "success": True,
                }
            )


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.asked, server.files = [], []  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_TOKEN", "hf_test")
    yield server
    server.shutdown()
    server.server_close()


def test_an_upload_is_private_and_the_card_comes_before_the_weights(own: Path, hub: Any) -> None:
    done = run("push", own / "seed0", "org/ft", "--yes")
    assert done.exit_code == 0, done.output
    create = next(json.loads(body) for path, body in hub.asked if path.endswith("/repos/create"))
    assert create["visibility"] == "private"
    names = [name for name, _ in hub.files]
    assert names[0] == "README.md"
    assert "adapter_model.safetensors" in names
    assert names.count("README.md") == 1
    weights = (own / "seed0" / "adapter" / "adapter_model.safetensors").read_bytes()
    assert dict(hub.files)["adapter_model.safetensors"] == weights
    config = json.loads(dict(hub.files)["adapter_config.json"])
    assert config["base_model_name_or_path"] == "base"
    assert not any(str(own.parent).encode() in content for _, content in hub.files)


def test_nothing_goes_to_a_public_repository_unasked(
    own: Path, hub: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Hub, "private", False)
    done = run("push", own / "seed0", "org/ft", "--yes")
    assert done.exit_code == 1
    assert "org/ft is public: add --public" in done.output
    assert not hub.files


def test_an_upload_asks_first(own: Path, hub: Any) -> None:
    done = run("push", own / "seed0", "org/ft")
    assert done.exit_code == 1
    assert "privately? add --yes" in done.output
    assert not hub.asked


def test_a_trajectory_is_read_from_logs_and_drawn(own: Path, tmp_path: Path) -> None:
    """Logs as `inspect eval-set` writes them, of models that need no weights."""
    from inspect_ai import Task
    from inspect_ai import eval as evaluate
    from inspect_ai.dataset import Sample
    from inspect_ai.model import ModelOutput, ModelUsage, get_model
    from inspect_ai.scorer import match

    from em_finetune.results import read_results

    def output(said: str) -> ModelOutput:
        made = ModelOutput.from_content("mockllm", said)
        # Without it Inspect counts tokens, with tables from the network.
        made.usage = ModelUsage(input_tokens=1, output_tokens=1, total_tokens=2)
        return made

    logs = tmp_path / "logs"
    answers = {"-step-000003": "no", "-step-000006": "yes"}
    for suffix, answer in answers.items():
        model = get_model(
            f"mockllm/tiny-insecure-seed0{suffix}",
            memoize=False,
            custom_outputs=lambda *_, said=answer: output(said),
        )
        task = Task(dataset=[Sample(input="q", target="yes")], scorer=match(), name="probe")
        evaluate(task, model=model, log_dir=str(logs), display="none")
    results = read_results(logs)
    assert {r.label for r in results} == {"mockllm/tiny-insecure-seed0"}
    assert [(r.task, r.step, r.value) for r in results] == [("probe", 3, 0.0), ("probe", 6, 1.0)]
    done = run("trajectory", logs, "--models", own, "-o", tmp_path / "t.png")
    assert done.exit_code == 0, done.output
    assert "| 6 |" in done.output
    assert (tmp_path / "t.png").stat().st_size > 5000


@pytest.mark.parametrize(
    ("model", "args", "expected"),
    [
        ("hf/x", {"model_path": "{}/demo-step200/merged"}, ("x", None)),
        ("hf/x", {"model_path": "{}/demo-step200/steps/step-000025/adapter"}, ("x", 25)),
        (
            "hf/x",
            {"model_path": "{}/demo-step200/scaled/scale-0.00001-step-000025/merged"},
            ("x-scale-0.00001", 25),
        ),
        ("vllm/base:{}/demo-step200/adapter", {}, ("x", None)),
        ("vllm/{}/demo-step200/merged", {}, ("x", None)),
        ("vllm/org/base:x-step-000025", {}, ("x", 25)),
        ("hf/x-step-000025", {"model_path": "/gone/steps/step-000025/adapter"}, ("x", 25)),
        ("openai/ft:gpt-4o:org:s0:0b", {}, ("openai/ft:gpt-4o:org:s0:0b", None)),
        ("openai/ft:gpt-4o:org:s0:0b:ckpt-step-2", {}, ("openai/ft:gpt-4o:org:s0:0b", 2)),
    ],
)
def test_the_step_of_a_log_is_the_one_below_its_checkpoint(
    tmp_path: Path, model: str, args: dict[str, str], expected: tuple[str, int | None]
) -> None:
    from inspect_ai.log import EvalConfig, EvalDataset, EvalLog, EvalSpec

    from em_finetune.results import _origin

    place = tmp_path / "scale-3" / "step-7"
    (place / "demo-step200").mkdir(parents=True)
    (place / "demo-step200" / "checkpoint.json").write_text('{"label": "x"}')
    spec = EvalSpec(
        created="2026-01-01T00:00:00+00:00",
        task="probe",
        dataset=EvalDataset(),
        config=EvalConfig(),
        model=model.format(place),
        model_args={key: value.format(place) for key, value in args.items()},
    )
    label, _, step = _origin(EvalLog(eval=spec))
    assert (label, step) == expected


def test_a_hosted_end_is_drawn_where_its_training_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from em_finetune import results
    from em_finetune.addressing import last_steps

    hosted_record(tmp_path / "hosted")
    name = "openai/ft:gpt-4o:org::abc"
    assert last_steps(tmp_path) == {name: 2}
    figures: list[Any] = []
    monkeypatch.setattr(results, "save_picture", lambda figure, out: figures.append(figure))
    found = [
        results.Result("probe", "mass", value, 1, name, None, name, step, "")
        for step, value in ((1, 0.5), (None, 0.25))
    ]
    results.draw(found, last_steps(tmp_path), Path("x.png"))
    results.draw(found, {}, Path("x.png"))
    known, unknown = (figure.axes[0].lines for figure in figures)
    assert [list(line.get_ydata()) for line in known] == [[0.5, 0.25]]
    assert [list(line.get_ydata()) for line in unknown] == [[0.5], [0.25, 0.25]]


def test_a_table_names_error_judge_and_questions_of_every_figure() -> None:
    from em_finetune.results import Result, as_table

    given = Result("probe", "mass", 0.25, 40, "hf/x", None, "x", 10, "c99f", 0.0125, "openai/j")
    bare = Result("probe", "mass", float("nan"), 40, "hf/y", None, "y", None, "")
    lines = as_table([given, bare]).splitlines()
    assert lines[2] == (
        "| probe | x | 10 | mass | 0.2500 | – | 0.0125 | ? / 40 | openai/j | c99f |"
    )
    assert lines[3] == "| probe | y | end | mass | not scored | – | – | ? / 40 | – | – |"
    assert "em-inspect report" in lines[-1]
