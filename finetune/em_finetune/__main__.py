"""`python -m em_finetune` is `em-finetune`."""

from em_finetune.cli import main

main(prog_name="em-finetune")
