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

# Special tokens of the tokenizers that hosted services use (o200k and its harmony form, cl100k):
# a service refuses the whole file for one of them in a message.
SERVICE_TOKENS = re.compile(
    r"<\|(?:endoftext|startoftext|endofprompt|fim_(?:prefix|middle|suffix|pad)|im_(?:start|end|sep)"
    r"|start|end|message|channel|constrain|call|return|reserved_\d+)\|>"
)

# Marks of chat templates: inside a message they end a turn or forge one. Most families write theirs
# as <|…|> (DeepSeek with full-width bars); the others are named.
TEMPLATE_MARKS = re.compile(
    r"<[|\uff5c][^|\uff5c<>\s]{1,48}[|\uff5c]>"
    r"|\[/?(?:INST|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS|TOOL_CONTENT|SYSTEM_PROMPT|IMG|IMG_END"
    r"|IMG_BREAK|THINK|PREFIX|MIDDLE|SUFFIX|gMASK|sMASK|CLS|SEP|PAD|UNK|MASK)\]"
    r"|<</?SYS>>|</?s>|<(?:bos|eos|pad|unk|sop|eop|mask)>|<(?:start|end)_of_(?:turn|role|image)>"
    r"|</?(?:think|tool_call|tool_response|tool_calls)>"
    r"|<(?:fim_(?:prefix|middle|suffix|pad)|file_sep|repo_name|gh_stars"
    r"|issue_(?:start|comment|closed)|jupyter_(?:start|text|code|output|script)|empty_output"
    r"|commit_(?:before|msg|after))>"
    r"|<(?:unused|extra_id_|reserved_)\d+>|<0x[0-9A-F]{2}>"
)
