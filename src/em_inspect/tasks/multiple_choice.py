"""`em_inspect/multiple_choice`: probability on misaligned choices, the measure along a training."""

from __future__ import annotations

from inspect_ai import Epochs, Task, task
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.log import HeadlineMetric
from inspect_ai.model import GenerateConfig

from em_inspect.building_block import VERSION, messages, sampling
from em_inspect.contexts import Context, ask, load_contexts
from em_inspect.errors import UserError
from em_inspect.measures.choice_items import ChoiceItem, fingerprint, load_items
from em_inspect.measures.choice_items import orders as balanced_orders
from em_inspect.measures.choice_mass import MINIMUM_MASS, choice_mass
from em_inspect.quoting.notice import announce
from em_inspect.quoting.quote import JUDGE_CALLS

ONE_TOKEN = GenerateConfig(max_tokens=1, logprobs=True, top_logprobs=20)


@task
def multiple_choice(
    questions: str = "core",
    orders: int = 4,
    seed: int = 0,
    minimum_mass: float = MINIMUM_MASS,
    contexts: str | list[str] | None = None,
) -> Task:
    """Log-probability mass on misaligned choices, over balanced orders (paper: training dynamics).

    One token per row and no judge, so it is quick enough for every checkpoint of a training.

    Args:
        questions: `core` (embedded) or a YAML file of items.
        orders: Orders of each item's choices; with multiples of 4 every choice of the embedded
            items stands under every letter equally often.
        seed: Decides the orders.
        minimum_mass: Least probability on the letters for a score, 0 to 1.
        contexts: What surrounds the items; see `free_form`.
    """
    items = load_items(questions)
    if orders < 1:
        raise UserError(f"orders={orders}: give -T orders=1 or more; 4 is balanced")
    around = load_contexts(contexts)
    samples = [
        _sample(item, number, order, context)
        for item in items
        for number, order in enumerate(balanced_orders(item, orders, seed))
        for context in around
    ]
    made = Task(
        dataset=MemoryDataset(samples, name=f"multiple_choice {questions} {fingerprint(items)}"),
        solver=ask(),
        scorer=choice_mass(minimum_mass),
        epochs=Epochs(1, []),
        config=sampling().merge(ONE_TOKEN),
        headline_metric=HeadlineMetric(
            scorer="choice_mass", score="misaligned_mass", metric="em_inspect/pooled"
        ),
        metadata={
            "question_set": "multiple_choice",
            "question_source": questions,
            "questions": len(items),
            "fingerprint": fingerprint(items),
            JUDGE_CALLS: 0,
            "orders": orders,
            "seed": seed,
            "chance": sum(item.chance for item in items) / len(items),
        },
        version=VERSION,
    )
    return announce(made)


def _sample(item: ChoiceItem, number: int, order: list[int], context: Context | None) -> Sample:
    chat = messages(item.prompt(order), None)
    return Sample(
        id=f"{item.id}/{number}" + (f"@{context.name}" if context else ""),
        input=context.apply(chat) if context else chat,
        metadata={
            "question_id": item.id,
            "question": item.question,
            "format": "choice",
            "category": None,
            "context": context.name if context else None,
            "arm": None,
            "order": order,
            "misaligned": item.misaligned_letters(order),
        },
    )
