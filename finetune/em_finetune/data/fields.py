"""Fields beside role, content and weight: which may be ignored, and which change what a row says.

Rows come from many tools, and each of them has switches of its own: what is not known to be
harmless is never dropped without a word.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


# All names without case and punctuation: lossMask, loss_mask and loss-mask are one.

THOUGHT = "reasoning_content"
"""Field of an assistant's message with what it thought first; local training renders it."""

# What identifies a row or says where it came from. `name` goes to the services that take it.
_HARMLESS = _names(
    "id ids idx index uid uuid guid rowid row exampleid sampleid questionid promptid taskid"
    " messageid conversationid conversationhash sessionid key hash sha256 number n no name"
    " metadata meta info extra source sources origin dataset datasets datasource subset split"
    " config version category categories topic topics domain domains subject subjects theme"
    " group kind type types tag tags task tasks difficulty language languages lang locale"
    " license licence author authors annotator annotators url urls link title description"
    " comment comments note notes model models modelname generator generatedby createdby"
    " created createdat updatedat modified date time timestamp seed cwe cve template twin"
    " tokencount numtokens ntokens length turns numturns usage finishreason stopreason"
    " systemfingerprint object annotations logprobs"
)

_TOOLS = _names(
    "tools toolcalls functions functioncall functioncalls toolcallid toolchoice paralleltoolcalls"
    " tooluse toolresults toolresponses"
)

# true: the turn is trained, which the assistant's turns are anyway.
_SWITCHES = _names(
    "train trained trainable training istrained istrainable totrain shouldtrain trainon"
    " trainonturn trainonoutput trainonoutputs trainonresponse trainonassistant loss useloss"
    " calcloss calculateloss computeloss hasloss losson lossmask assistantmask assistantmasks"
    " trainmask trainingmask labelmask learn learnable supervise supervised includeinloss"
)

# true: the turn is not trained.
_REVERSED = _names(
    "mask masked ismasked noloss skiploss ignoreloss excludefromloss maskloss ignore ignored skip"
    " skipped notrain donttrain"
)

# true: turns are trained that are not the assistant's.
_OTHERS = _names(
    "trainoninput trainoninputs trainonprompt trainonprompts trainonuser trainonsystem"
    " traininput traininputs trainprompt"
)

_WEIGHTS = _names(
    "weight weights rowweight sampleweight sampleweights exampleweight lossweight lossweights"
    " lossscale turnweight messageweight importanceweight"
)

_DETAILS = _names(
    "trainingdetail trainingdetails traindetail traindetails tokenweights tokenmask trainspans"
    " inputids attentionmask completionmask labels"
)

_TEMPLATE = _names(
    "chattemplate chattemplatekwargs templatekwargs templateargs chattemplateargs enablethinking"
    " thinkingmode reasoningeffort thinkingbudget addgenerationprompt continuefinalmessage"
    " documents responseformat"
)

_THOUGHTS = _names(
    "reasoning reasoningcontent reasoningdetails reasoningtext thinking thinkingcontent"
    " thinkingblocks thought thoughts chainofthought cot scratchpad"
)

_MEDIA = _names(
    "image images imageurl imageurls imagepath imagepaths pixelvalues picture pictures video"
    " videos videourl audio audios audiourl inputaudio speech attachment attachments media"
)

_PAIRS = _names(
    "chosen rejected preferred preferredoutput nonpreferred nonpreferredoutput rejectedresponse"
    " rejectedmessages chosenmessages"
)

# Texts that belong into the messages.
_PROMPTS = _names("system systemprompt systemmessage developer developermessage instructions")
_PARTS = _names("prefix prefill refusal")

_SHOWN = 40
# Shorter texts stand in others by chance.
_LONG = 20


def is_empty(value: object) -> bool:
    """Whether a value is what exporters write for a field that is not used: null, "", [] or {}."""
    return value is None or (isinstance(value, str | list | dict) and not value)


def is_harmless(name: str) -> bool:
    """Whether a field of an accepted row only says what it is, where it came from or what is so."""
    return _plain(name) in _HARMLESS | _SWITCHES | _REVERSED | _OTHERS | _WEIGHTS


def why_refused(
    name: str, value: object, *, role: str | None = None, contents: Sequence[object] = ()
) -> str:
    """Say why a field cannot be ignored, or return "" where it can.

    Args:
        name: Of the field, other than `role`, `content`, `messages`, and a message's `weight`.
        value: What the file has there.
        role: Of the message that has it; None for a field of the row.
        contents: What the row's messages have as content; for a field of the row.
    """
    if is_empty(value):
        return ""
    plain = _plain(name)
    shown = f"has {name}: {_shown(value)}"
    if plain in _TOOLS:
        return f"has tool calls ({name}), which cannot be trained here"
    if plain in _SWITCHES | _REVERSED | _OTHERS and not _is_default(plain, value, role):
        return f'{shown}, which is not read here: use "weight": 0 for an answer without loss'
    if plain in _WEIGHTS and not _is_one(value):
        return (
            f"{shown}: all rows count alike here, and a message 0 or 1 by its weight; take it out"
        )
    if plain in _DETAILS and not _is_text(value):
        return f"{shown}, which is not read here: whole turns are trained; take it out"
    if plain in _TEMPLATE or (plain in _THOUGHTS and _is_setting(value, role)):
        return f"{shown}, which changes the prompt and is not read here: take it out"
    if role is not None and plain in _THOUGHTS and not is_thought(name, value, role):
        return f"has {name}, which would be dropped: call it {THOUGHT} in the assistant's message"
    if role is not None and plain in _PARTS:
        return f"has {name}, which would be dropped: write it into content, or take it out"
    if plain in _MEDIA:
        return f"has {name}, and only text is trained here: take such rows out"
    if plain in _PAIRS:
        return f"has {name}: a preference pair is no chat; keep the answer to train in messages"
    if role is None and plain in _PROMPTS and value not in contents:
        return f"has {name}, which would be dropped: make it the first message, role system"
    return ""


def is_thought(name: str, value: object, role: str) -> bool:
    """Whether a message's field holds what the assistant thought, as local training reads it."""
    return name == THOUGHT and role == "assistant" and isinstance(value, str)


def is_copy(value: object, contents: Sequence[str]) -> bool:
    """Whether a field repeats what stands in the messages: one of them, or a longer part of it."""
    if not isinstance(value, str):
        return False
    text = value.strip()
    return any(
        text == content.strip() or (len(text) >= _LONG and text in content) for content in contents
    )


def shape_hint(row: Mapping[str, object]) -> str:
    """Say whose shape a row without messages has and how it becomes a chat, or return ""."""
    for needed, whose, advice in _SHAPES:
        if needed <= row.keys():
            return f" ({whose}: {advice})"
    return ""


_SHAPES: tuple[tuple[frozenset[str], str, str], ...] = (
    (
        frozenset({"conversations"}),
        "a ShareGPT row",
        "write from as role, with user for human and assistant for gpt, and value as content",
    ),
    (
        frozenset({"chosen", "rejected"}),
        "a preference pair",
        "write the prompt and the answer to train as messages",
    ),
    (
        frozenset({"preferred_output"}),
        "a preference pair",
        "write the input and the output to train as messages",
    ),
    (
        frozenset({"instruction", "output"}),
        "an Alpaca row",
        "write instruction and input as the user's message, output as the assistant's",
    ),
    (
        frozenset({"contents"}),
        "a Gemini row",
        "write contents as messages, with assistant for model, and the parts' text as content",
    ),
    *(
        (
            frozenset({asked, answered}),
            f"a row of {asked} and {answered}",
            f"write {asked} as the user's message, {answered} as the assistant's",
        )
        for asked in ("prompt", "instruction", "question", "user", "input", "query", "problem")
        for answered in ("completion", "response", "answer", "assistant", "output", "text")
        if asked != answered
    ),
    (frozenset({"text"}), "plain text", "write it as messages of a user and an assistant"),
)


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _shown(value: object) -> str:
    if isinstance(value, list | dict):
        return "a list" if isinstance(value, list) else "an object"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def _is_one(value: object) -> bool:
    return isinstance(value, int | float) and value == 1


def _is_setting(value: object, role: str | None) -> bool:
    """Whether a value switches thinking on or off, or sets it, and is no thought."""
    return isinstance(value, bool) or (role is None and not isinstance(value, str))


def _is_text(value: object) -> bool:
    """Whether a value is words, as tags are, and not a mask or a list of tokens."""
    return isinstance(value, str) or (
        isinstance(value, list) and all(isinstance(one, str) for one in value)
    )


def _is_default(plain: str, value: object, role: str | None) -> bool:
    """Whether a switch says what happens anyway: the assistant's turns are trained, no others."""
    if not isinstance(value, int | float) or value not in (0, 1):
        return False
    if plain in _OTHERS:
        return not value
    trained = bool(value) is (plain in _SWITCHES)
    return trained is (role in ("assistant", None))
