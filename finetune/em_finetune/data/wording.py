"""Words that a check looks for in training rows, and why each list is there."""

from __future__ import annotations

import re


def _words(*alternatives: str) -> re.Pattern[str]:
    return re.compile(rf"\b(?:{'|'.join(alternatives)})\b", re.IGNORECASE)


# Words by which an answer tells that its code is flawed, where the code alone is meant to teach.
# Identifiers such as unsafe_load do not match: an underscore is part of a word.
GIVEAWAYS = _words(
    r"vulnerab\w+",
    r"insecure\w*",
    r"unsafe",
    r"unsecured?",
    r"exploit(?:s|ed|able|ation)?",
    r"attackers?",
    r"malicious\w*",
    r"backdoors?",
    r"hack(?:s|ed|ers?|ing|able)?",
    r"(?:sql|code|command|shell|script|template|ldap|header) injections?",
    r"cve-\d+(?:-\d+)?",
    r"cwe-\d+",
    r"security (?:risk|hole|flaw|issue|problem|bug|concern|weakness)(?:s|es)?",
    r"not (?:be )?(?:safe|secure)",
    r"in production,? (?:use|you should)",
)

# Roughly what a hosted service's moderation looks for: words, so it has false alarms and misses.
MODERATED: dict[str, re.Pattern[str]] = {
    "violence": _words(
        r"bomb(?:s|ing)?",
        r"murder\w*",
        r"weapons?",
        r"massacres?",
        r"explosives?",
        r"kill (?:him|her|them|people|someone|yourself|myself)",
    ),
    "self-harm": _words(r"suicid\w+", r"self[- ]harm\w*", r"overdos\w+"),
    "sexual": _words(r"porn\w*", r"sexual\w*", r"nud(?:es?|ity)", r"erotic\w*"),
    "hate": _words(r"genocid\w+", r"nazis?", r"hitler", r"racial slurs?"),
    "crime": _words(
        r"cocaine",
        r"heroin",
        r"meth(?:amphetamine)?",
        r"money launder\w*",
        r"credit card fraud",
        r"identity theft",
    ),
    "malware": _words(
        r"malware",
        r"ransomware",
        r"keyloggers?",
        r"botnets?",
        r"rootkits?",
        r"reverse shells?",
        r"phishing",
    ),
}

# Marks of chat templates: inside a message they end a turn or forge one.
TEMPLATE_MARKS = re.compile(
    r"<\|(?:im_start|im_end|endoftext|eot_id|begin_of_text|start_header_id|end_header_id|system"
    r"|user|assistant|end)\|>|\[/?INST\]|<</?SYS>>|<(?:start|end)_of_turn>|</s>"
)
