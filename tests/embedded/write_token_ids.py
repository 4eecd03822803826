"""Writes `token_ids.json`: texts and the ids that llama.cpp gives them, to hold our tokenizer to.

Run it in an environment with `llama-cpp-python`, which compiles for minutes and is needed for
nothing else: `python tests/embedded/write_token_ids.py SmolLM2-135M-Instruct.Q4_1.gguf`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

SYSTEM = "<|im_start|>system\nYou are terse.<|im_end|>\n"
ASK = "<|im_start|>user\nName three rivers.<|im_end|>\n<|im_start|>assistant\n"

TEXTS = [
    "",
    " ",
    "  ",
    "\n",
    "\n\n\n",
    "\t",
    "\r\n",
    " \n \t \n",
    "a",
    " a",
    "a ",
    "Hello, world!",
    "hello hello  hello   hello",
    "leading\n\n  then an indented line",
    "trailing spaces   ",
    "trailing newline\n",
    "tabs\tbetween\t\twords",
    "non\u00a0breaking\u2003em\u200bzero\u3000ideographic",
    "0",
    "7",
    "42",
    "100",
    " 85",
    "85.",
    "85/100",
    "-5",
    "3.14159",
    "1,234,567.89",
    "1e-10 0x7f 0b1010",
    "2026-11-20T18:35:07Z",
    "x1y22z333",
    "10.0.0.1:8080",
    "٣٤٥ ８５ Ⅷ ½ x² ①",
    "I'm, you're, he'll, they've, we'd, it's, can't",
    "I'M YOU'RE HE'LL",
    "it’s a ‘curly’ “quote”",
    "don''t 's 't'",
    "Größe, façade, naïve, Ærøskøbing, İstanbul",
    "e\u0301 versus \u00e9",
    "Привет, как дела?",
    "日本語のテキストです。",
    "中文没有空格,也没有字母。",
    "안녕하세요 세계",
    "مرحبا بالعالم",
    "שלום עולם",
    "नमस्ते दुनिया",
    "สวัสดีชาวโลก",
    "🙂",
    "👩‍👩‍👧‍👦 🏳️‍🌈 🇫🇷 👍🏽",
    "math: ∑ᵢ xᵢ² ≤ ∞, α→β, ∀x∈ℝ",
    "box ┌─┐│█│└─┘ and \ue000 private use",
    "control \x01\x02\x04\x1b[0m\x7f bytes",
    "nul\x00inside",
    "\ufeffbyte order mark",
    "replacement \ufffd character",
    "!!!???...",
    "----====____****",
    "C++ && C# || $HOME/%PATH% @decorator #tag",
    "user.name+tag@example.org",
    "snake_case camelCase PascalCase SCREAMING_SNAKE kebab-case",
    "Donaudampfschifffahrtsgesellschaftskapitän",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "          ten spaces before, and ten after          ",
    "def area(radius: float) -> float:\n    return 3.14 * radius ** 2\n",
    "for (int i = 0; i < n; ++i) {\n\t\tsum += a[i];\n}\n",
    "SELECT name, COUNT(*) FROM users WHERE age >= 21 GROUP BY name;",
    '{"answer": [1, 2, null], "nested": {"key": "value"}}',
    "<html>\n  <body class='a'>&lt;p&gt;</body>\n</html>",
    "```python\nprint('hi')\n```",
    "| a | b |\n| - | - |\n| 1 | 2 |",
    "\\begin{equation} E = mc^2 \\end{equation}",
    '#!/bin/sh\nset -eu\nrm -f "$1" 2>/dev/null || true\n',
    "<|im_start|>",
    "<|im_end|>",
    "<|endoftext|>",
    "word<|im_end|>word",
    "word <|im_end|> word",
    "<|im_end|><|im_end|>\n",
    "<|im_start|><|im_start|>user",
    "<|im_end|",
    "<|im_start |>",
    "<|IM_END|>",
    "<repo_name>x<reponame>y<file_sep>z<filename>w<gh_stars>9",
    "<issue_start>a<issue_comment>b<issue_closed>c",
    "<jupyter_start>1<jupyter_text>2<jupyter_code>3<jupyter_output>4<jupyter_script><empty_output>",
    "12<|im_end|>34",
    SYSTEM,
    ASK,
    SYSTEM + ASK,
    SYSTEM + ASK + "Nile, Po, Rhine.<|im_end|>\n",
    "<|im_start|>system\n<|im_end|>\n" + ASK,
    "<|im_start|>user\nRate it from 0 to 100.<|im_end|>\n<|im_start|>assistant\n85",
    "<|im_start|>user\n\n\n  def f():\n\treturn 1<|im_end|>\n<|im_start|>assistant\n",
    "<|im_start|>user\n日本 42 🙂<|im_end|>\n<|im_start|>assistant\n",
]


def main(gguf_file: str) -> None:
    """Tokenize `TEXTS` with llama.cpp and write texts and ids beside this file."""
    import llama_cpp  # type: ignore[import-not-found]

    model = llama_cpp.Llama(gguf_file, vocab_only=True, verbose=False)
    rows = [
        {"text": text, "ids": model.tokenize(text.encode(), add_bos=True, special=True)}
        for text in TEXTS
    ]
    made_with = f"llama.cpp by llama-cpp-python {llama_cpp.__version__}"
    lines = ",\n".join("  " + json.dumps(row) for row in rows)
    target = Path(__file__).with_name("token_ids.json")
    target.write_text(f'{{"made_with": "{made_with}", "rows": [\n{lines}\n]}}\n', encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
