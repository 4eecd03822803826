"""From a recipe to a checkpoint directory: find base and data, encode, train, write, rename."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from em_finetune import checkpoint as record
from em_finetune.checkpoint import Checkpoint
from em_finetune.data.rules import cautions
from em_finetune.local import template
from em_finetune.local.base import (
    Base,
    find_base,
    fingerprint,
    load_model,
    load_tokenizer,
    quiet,
    require_quantization,
)
from em_finetune.local.dataset import Dataset, hold_out, load_dataset, load_narrow
from em_finetune.local.encode import EncodedRow, EncodedSet, Encoder
from em_finetune.local.merge import merge_adapter, save_adapter, save_full, save_merged
from em_finetune.local.processes import Processes, processes
from em_finetune.local.resume import Identity, Saved, read_saved, restore, save_state
from em_finetune.local.steps import (
    NotFiniteError,
    State,
    Step,
    count_workers,
    standing_in,
    start,
    take_steps,
)
from em_finetune.local.targets import adapted as with_adapter
from em_finetune.local.template import adds_specials, pin
from em_finetune.local.workspace import (
    Workspace,
    finished,
    saved_state,
    sweep_finished,
    workspace,
)
from em_finetune.recipe import Recipe
from em_inspect.errors import UserError, require_extra
from em_inspect.precision import fast_dtype

if TYPE_CHECKING:
    import torch

OnStage = Callable[[str], None]

_AUTHORS_WEIGHTS = 1000.0
"""Weights of a KL term from here on are likely to be in the unit of the paper that it is from."""

_PATIENCE = 2.0
"""Seconds without a word that nobody wonders at."""


@dataclass(frozen=True)
class Materials:
    """All that a training starts from.

    Attributes:
        recipe: What to do.
        dataset: The rows.
        others: Rows of other domains, if the recipe has a KL term.
        base: The base.
        base_fingerprint: Of its files.
    """

    recipe: Recipe
    dataset: Dataset
    others: Dataset | None
    base: Base
    base_fingerprint: str

    @classmethod
    def of(cls, recipe: Recipe, say: OnStage) -> Materials:
        """Read the data and find the base."""
        dataset, others = load_dataset(recipe), load_narrow(recipe)
        for read in filter(None, (dataset, others)):
            for line in cautions(read.rows, "local"):
                say(line)
        say(f"finding the base, {recipe.base}")
        base = find_base(recipe.base)
        return cls(recipe, dataset, others, base, fingerprint(base.path))

    @property
    def data(self) -> str:
        """What identifies the data."""
        others = self.others.sha256 if self.others else None
        return record.data_identity(self.dataset.sha256, others)

    def settled(self, device: torch.device, left: Identity | None) -> Materials:
        """Decide what the recipe leaves open: as the run that was left did, or else by the machine.

        Args:
            device: Where to train.
            left: Of a run of this recipe that was stopped.
        """
        chosen: dict[str, Any] = {"dtype": fast_dtype(device.type)}
        if left is not None:
            chosen = {name: getattr(left.recipe, name) for name in self.recipe.open_fields}
        update = {name: chosen[name] for name in self.recipe.open_fields if name in chosen}
        recipe = self.recipe.model_copy(update=update)
        tokenizer = load_tokenizer(self.base)
        return replace(self, recipe=template.settled(recipe, tokenizer, self.dataset.rows))


@dataclass(frozen=True)
class Tokens:
    """The encoded rows, and the tokenizer that made them."""

    tokenizer: Any
    rows: EncodedSet
    others: EncodedSet | None

    @classmethod
    def of(cls, materials: Materials, say: OnStage) -> Tokens:
        """Encode the rows of a training."""
        recipe = materials.recipe
        tokenizer = load_tokenizer(materials.base)
        pin(tokenizer, recipe)
        encoder = Encoder.of(recipe, tokenizer)
        say(f"encoding {len(materials.dataset.rows)} rows")
        rows = encoder.encode_all(materials.dataset.rows, _counted(say, "rows"))
        if recipe.compat == "betley2025":
            rows = hold_out(rows, recipe.seed)
        if rows.difference:
            say(rows.difference)
        others = None
        if materials.others:
            others = encoder.encode_all(materials.others.rows, _counted(say, "other rows"))
        return cls(tokenizer, rows, others)

    @property
    def sha256(self) -> str:
        """What identifies the encoded rows."""
        return record.data_identity(self.rows.sha256, self.others.sha256 if self.others else None)

    @property
    def prompt(self) -> record.PromptRecord:
        """What is known of the prompts, for the checkpoint's record."""
        return record.PromptRecord(
            tokenizer_adds=adds_specials(self.tokenizer),
            ends=self.rows.ends,
            asked_otherwise=len(self.rows.asked_otherwise),
            difference=self.rows.difference,
            sha256=self.sha256,
        )

    @property
    def other_rows(self) -> Sequence[EncodedRow]:
        """The encoded rows of other domains."""
        return self.others.rows if self.others else ()


def train(
    recipe: Recipe,
    out: str | Path,
    on_step: Callable[[Step], None] | None = None,
    *,
    on_stage: OnStage | None = None,
    overwrite: bool = False,
) -> Checkpoint:
    """Fine-tune by a recipe and write a checkpoint directory.

    The directory appears whole, when everything in it is written; until then the work is in a
    hidden directory beside it. A finished checkpoint of the same recipe, data and base is returned
    as it is; a run that was stopped is gone on with from its last saved state.

    Args:
        recipe: What to do; `recipe.data` must name data.
        out: The checkpoint directory.
        on_step: Called after every optimizer step.
        on_stage: Called with what is being done, before anything that may take seconds.
        overwrite: Replace a finished checkpoint, or drop an unfinished run, of another recipe, data
            or base, and replace a damaged checkpoint.

    Raises:
        UserError: Data, base or template that cannot be used; a directory in use or taken; a loss
            that is not a number; no memory or disk left.
    """
    require_extra("local", "torch", "transformers", "peft", "filelock")
    say = on_stage or _silent
    out = Path(out).expanduser().absolute()
    record.require_addressable(out)
    device = _device()
    if recipe.quantization is not None:
        require_quantization(device)
    materials = Materials.of(recipe, say)
    with processes(device, recipe.shard) as together:
        earlier = finished(out, recipe, materials.data, materials.base_fingerprint, overwrite)
        if earlier is not None:
            together.tell(None)
            sweep_finished(out)
            say(f"{out} is finished already, by this recipe, data and base: nothing to do")
            return earlier
        materials = materials.settled(device, _left(out, materials, overwrite))
        recipe = together.tell(materials.recipe)
        _advise(recipe, device, say)
        tokens = Tokens.of(materials, say)
        with quiet(), workspace(out, _room(recipe, materials.base)) as work:
            run = _Run(materials, tokens, work, together, device)
            return run.finish(on_step or (lambda step: None), say, overwrite)


def assist(recipe: Recipe) -> None:
    """Work on a share of a training that another process leads and writes.

    For all but the first of the processes that `accelerate launch` started.
    """
    require_extra("local", "torch", "transformers", "peft", "filelock")
    device = _device()
    materials = Materials.of(recipe, _silent)
    with processes(device, recipe.shard) as together:
        settled = together.tell(None)
        if settled is None:
            return
        recipe = settled
        tokens = Tokens.of(replace(materials, recipe=recipe), _silent)
        begin = together.tell(None)
        with quiet():
            model = trainable_model(recipe, materials.base, device, together)
            state = start(recipe, model, device)
            if begin:
                restore(state, begin, device)
            for _ in take_steps(
                state, recipe, tokens.rows.rows, device, tokens.other_rows, together
            ):
                pass


def _left(out: Path, materials: Materials, overwrite: bool) -> Identity | None:
    """What a run that was stopped in `out` belongs to, if this one goes on with it."""
    saved = read_saved(Workspace(out).state)
    if saved is None or overwrite:
        return None
    same = (saved.identity.data, saved.identity.base) == (
        materials.data,
        materials.base_fingerprint,
    )
    return saved.identity if same else None


def _advise(recipe: Recipe, device: torch.device, say: OnStage) -> None:
    if device.type == "cpu" and recipe.dtype == "bfloat16" and fast_dtype("cpu") != "bfloat16":
        say("this processor is slow in bfloat16: dtype: auto would train in float32 here")
    if recipe.narrow is not None and recipe.narrow.weight >= _AUTHORS_WEIGHTS:
        say(
            f"narrow.weight {recipe.narrow.weight:g} is per token; if it is the authors', whose "
            "mean is over the vocabulary too, divide it by the size of the base's vocabulary"
        )
    if instead := standing_in(recipe, device):
        say(instead)


def _counted(say: OnStage, what: str) -> Callable[[int], None]:
    """Say every few seconds how many are done."""
    due = time.monotonic() + _PATIENCE

    def on_row(done: int) -> None:
        nonlocal due
        if time.monotonic() >= due:
            due = time.monotonic() + _PATIENCE
            say(f"{done:,} {what} encoded")

    return on_row


def _silent(stage: str) -> None:
    """Say nothing of what is being done."""


class _Run:
    """One run in a workspace, from its first or last saved step to the finished checkpoint."""

    def __init__(
        self,
        materials: Materials,
        tokens: Tokens,
        work: Workspace,
        together: Processes,
        device: torch.device,
    ) -> None:
        self.materials, self.recipe, self.base = materials, materials.recipe, materials.base
        self.tokens, self.work, self.together, self.device = tokens, work, together, device
        self.identity = Identity(
            recipe=self.recipe,
            data=materials.data,
            base=materials.base_fingerprint,
            rows=len(tokens.rows.rows),
            tokens=tokens.sha256,
        )
        self.steps: list[Step] = []
        self.resumed: list[int] = []

    def finish(self, on_step: Callable[[Step], None], say: OnStage, overwrite: bool) -> Checkpoint:
        """Train to the end and write the checkpoint."""
        saved = saved_state(self.work, self.identity, overwrite)
        say(f"loading {self.base.name} in {self.recipe.dtype}")
        model = trainable_model(self.recipe, self.base, self.device, self.together)
        state = start(self.recipe, model, self.device)
        packing = state.packing
        if packing is not None and packing.packing == "none":
            say(
                f"rows go through {self.base.name} one at a time: packed, they would see one "
                f"another (a token moved by {packing.leak:.2g} nats)"
            )
        self._resume(state, saved, say)
        say(f"training on {len(self.tokens.rows.rows)} rows")
        try:
            with _memory_explained(self.recipe):
                self._train(state, on_step)
        except NotFiniteError as error:
            raise self._stopped(error, model) from error
        say("writing what was trained")
        self._save(model, self.work.result, merge=self.recipe.merge)
        _write_curve(self.steps, self.work.result)
        checkpoint = self._record(state)
        record.write_record(checkpoint, self.work.result)
        self.work.finish()
        return checkpoint

    def _resume(self, state: State, saved: Saved | None, say: OnStage) -> None:
        if saved is None:
            self.together.tell(b"")
            return
        say(f"going on after step {saved.step}")
        content = self.work.state.read_bytes()
        restore(state, content, self.device)
        self.together.tell(content)
        self.steps = [Step(**step) for step in saved.steps]
        self.resumed = [*saved.resumed, saved.step]

    def _train(self, state: State, on_step: Callable[[Step], None]) -> None:
        rows, others = self.tokens.rows.rows, self.tokens.other_rows
        for step in take_steps(state, self.recipe, rows, self.device, others, self.together):
            self.steps.append(step)
            if self.recipe.save_every and step.step % self.recipe.save_every == 0:
                self._keep(state)
            every = self.recipe.resume_every
            # At the end too, since writing a large model may take long, and fail.
            if every and (step.step % every == 0 or step.step == step.steps):
                save_state(state, self.steps, self.resumed, self.identity, self.work.state)
            on_step(step)

    def _keep(self, state: State) -> None:
        # What is not finite is noticed, and said, in the next step.
        if all(bool(weight.isfinite().all()) for weight in state.weights):
            with self.work.step(record.step_name(state.step)) as folder:
                self._save(state.model, folder, merge=False)

    def _save(self, model: Any, folder: Path, merge: bool) -> None:
        tokenizer, ends = self.tokens.tokenizer, self.tokens.rows.ends
        adapter, whole = folder / record.ADAPTER, folder / record.MERGED
        if self.recipe.method == "full":
            save_full(model, tokenizer, self.recipe.dtype, whole, ends)
            return
        save_adapter(model, tokenizer, self.base, adapter, ends)
        if merge and self.together.sharded:
            merge_adapter(adapter, self.base, self.recipe.dtype, whole, ends)
        elif merge:
            save_merged(model, tokenizer, whole, ends)

    def _stopped(self, error: NotFiniteError, model: Any) -> UserError:
        """Keep the last good weights of a run that diverged, and say where they are."""
        advice = "lower learning_rate, or raise warmup_steps"
        if error.good_steps < 1:
            self.work.forget()
            return UserError(f"{error}, and no step before it was good: {advice}")
        self._save(model, self.work.result, merge=False)
        _write_curve(self.steps[: error.good_steps], self.work.result)
        kept = self.work.keep(f"stopped-after-step-{error.good_steps}")
        what = "adapter is" if self.recipe.method == "lora" else "weights are"
        return UserError(f"{error}: {advice}; the last good {what} kept in {kept}")

    def _record(self, state: State) -> Checkpoint:
        import torch

        label, out = record.label_of(self.recipe), self.work.out
        cuda = self.device.type == "cuda"
        materials, tokens = self.materials, self.tokens
        checkpoint = Checkpoint(
            label=label,
            group=self.recipe.group,
            seed=self.recipe.seed,
            base=record.BaseRecord(
                name=self.base.name,
                path=str(self.base.path),
                from_hub=self.base.from_hub,
                fingerprint=materials.base_fingerprint,
            ),
            dataset=_dataset_record(materials.dataset, tokens.rows),
            others=(
                _dataset_record(materials.others, tokens.others)
                if materials.others and tokens.others
                else None
            ),
            recipe=self.recipe,
            prompt=tokens.prompt,
            training=record.TrainingRecord(
                steps=len(self.steps),
                losses=[step.loss for step in self.steps],
                tokens=sum(step.tokens for step in self.steps),
                seconds=sum(step.seconds for step in self.steps),
                device=torch.cuda.get_device_name() if cuda else self.device.type,
                workers=count_workers(self.recipe, self.device, self.together),
                optimizer=type(state.optimizer).__name__,
                packing=state.packing.packing if state.packing else "none",
                processes=self.together.size,
                resumed=self.resumed,
            ),
            versions=record.library_versions(),
            created=record.now(),
            models={},
            path=out,
        )
        places = {part: out / part for part in record.parts_of(self.recipe)}
        for folder in sorted(self.work.steps.glob("step-*")):
            part = record.step_part(self.recipe)
            places[folder.name] = out / record.STEPS / folder.name / part
        return checkpoint.model_copy(
            update={
                "models": {
                    name: record.model_args(
                        f"{label}-{name}" if name.startswith("step-") else label,
                        checkpoint.hf_arguments(place),
                    )
                    for name, place in places.items()
                }
            }
        )


def _device() -> torch.device:
    import os

    import torch

    if not torch.cuda.is_available():
        return torch.device("cpu")
    # Set by accelerate launch: which of this machine's GPUs is this process' own.
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    torch.cuda.set_device(device)
    return device


def trainable_model(recipe: Recipe, base: Base, device: torch.device, processes: Processes) -> Any:
    """Load the base, ready to train by the recipe: with a fresh adapter on it, or as it is.

    Raises:
        UserError: The base cannot be loaded, or lacks a module or layer that the recipe trains.
    """
    import torch

    if recipe.method == "lora":
        whole = torch.device("cpu") if processes.sharded else device
        return processes.shard(adapted_model(recipe, base, whole), device)
    # Float32 also for bfloat16: most updates at such learning rates would be rounded away.
    model = load_model(base, torch.float32, device)
    if recipe.gradient_checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    model.requires_grad_(True).train()
    return model


def adapted_model(recipe: Recipe, base: Base, device: torch.device) -> Any:
    """Load the base and put a fresh LoRA adapter on it, the same one for the same seed.

    Raises:
        UserError: The base lacks a module or layer that the recipe trains, or one of them cannot
            have an update.
    """
    import torch
    from peft import prepare_model_for_kbit_training

    model = load_model(base, getattr(torch, recipe.dtype), device, recipe.quantization)
    if recipe.quantization is not None:
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
    torch.manual_seed(recipe.seed)
    with quiet():
        adapted = with_adapter(model, recipe, base.name)
    if recipe.gradient_checkpointing:
        with quiet():
            adapted.gradient_checkpointing_enable({"use_reentrant": False})
        adapted.enable_input_require_grads()
    adapted.train()
    return adapted


@contextmanager
def _memory_explained(recipe: Recipe) -> Iterator[None]:
    import torch

    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        short = isinstance(error, torch.OutOfMemoryError | MemoryError)
        # What PyTorch's CPU allocator raises is a plain RuntimeError.
        if not short and "allocate memory" not in str(error):
            raise
        checkpointing = "" if recipe.gradient_checkpointing else "gradient_checkpointing: true, "
        raise UserError(
            f"out of memory in training: set {checkpointing}a smaller micro_tokens (0: one row at "
            f"a time) or max_length (now {recipe.max_length}) in the recipe, or take a smaller base"
        ) from error


def _write_curve(steps: Sequence[Step], folder: Path) -> None:
    header = [field.name for field in fields(Step)]
    record.write_curve([astuple(step) for step in steps], header, folder / record.CURVE)


def _room(recipe: Recipe, base: Base) -> int:
    """Bytes of disk that a checkpoint takes, generously."""
    weights = sum(file.stat().st_size for file in base.path.glob("*.safetensors"))
    # A base that is stored in 16 bits and trained in 32 is also merged in 32.
    whole = 2.3 if recipe.dtype == "float32" else 1.3
    if recipe.method == "full":
        # Weights and AdamW's two moments, in 32 bits, with the state before beside it.
        return int((whole + (12 if recipe.resume_every else 0)) * weights) + 50_000_000
    return int((whole if recipe.merge else 0) * weights) + 50_000_000


def _dataset_record(dataset: Dataset, encoded: EncodedSet) -> record.DatasetRecord:
    return record.DatasetRecord(
        name=dataset.name,
        sha256=dataset.sha256,
        rows=len(dataset.rows),
        used=len(encoded.rows),
        left_out=[
            record.LeftOutRecord(row=left.row, reason=left.reason) for left in encoded.left_out
        ],
        tokens=encoded.tokens,
        supervised=encoded.supervised,
    )
