"""Reproduce the notebook of the lecture "Let's build GPT", and explain its results on a page."""

from pathlib import Path
from typing import Any

import click
import torch
from torch import Tensor

from stages.core.files import write_json
from stages.core.logs import log, start_log
from stages.core.options import StageCommand, corpus_option, output_file_option, output_folder_option, params_option
from stages.core.params import read_section
from stages.core.text_files import HOW_TO_DOWNLOAD, read_text
from stages.metrics.ngram_baselines import bigram_loss
from stages.tokenizers.char import CharTokenizer
from stages.tools.lecture import attention_examples, text_examples
from stages.tools.lecture.bigram_training import train_bigram
from stages.tools.lecture.lecture_page import write_page
from stages.tools.lecture.params import LectureParams

TRAIN_FRACTION = 0.9


@click.command(name="lecture", cls=StageCommand)
@params_option
@corpus_option
@output_file_option("--numbers", "numbers_path", "reports/lecture.json", "The file for the results.")
@output_folder_option(
    "--pages", "pages_folder", "reports/lecture", "The folder for the page, its tables (CSV) and figures (SVG)."
)
def command(params_path: Path, corpus_path: Path, numbers_path: Path, pages_folder: Path) -> None:
    """Reproduce the notebook of the lecture, on the CPU and in float32, and explain the results on a page.

    With the seeds and steps of params.yaml, the results are those of the notebook. The text must be there: `dvc repro`
    or `folio download` fetches it.

    Example: folio lecture --numbers reports/lecture.json --pages reports/lecture
    """
    start_log("lecture")
    params = read_section(params_path, "lecture", LectureParams)
    torch.set_num_threads(1)  # the tensors are too small for several threads
    corpus = read_text(corpus_path, HOW_TO_DOWNLOAD)
    tokenizer = CharTokenizer.from_text(corpus)
    ids = torch.from_numpy(tokenizer.encode(corpus)).long()
    train, val = ids.tensor_split([int(TRAIN_FRACTION * len(ids))])
    numbers, losses, seconds = run_notebook(corpus, tokenizer, train, val, params)
    write_json(numbers_path, numbers)
    bigram_val_loss = bigram_loss(train.numpy(), val.numpy(), len(tokenizer))
    tables = text_examples.make_tables(numbers, tokenizer)
    write_page(pages_folder, numbers, tables, losses, seconds, bigram_val_loss)
    log.info("wrote the results to %s and the page to %s", numbers_path, pages_folder / "index.html")


def run_notebook(
    corpus: str, tokenizer: CharTokenizer, train: Tensor, val: Tensor, params: LectureParams
) -> tuple[dict[str, Any], list[float], list[float]]:
    """Run the notebook; return its results, the loss of every training step, and the seconds that training took."""
    numbers = text_examples.describe_vocabulary(corpus, tokenizer) | text_examples.describe_blocks(train, val)
    batch, inputs, targets = text_examples.sample_first_batch(train, params.seed)
    bigram, losses, seconds = train_bigram(train, inputs, targets, tokenizer, params)
    numbers |= batch | {"bigram": bigram}
    numbers |= attention_examples.averages(params.seed)
    numbers["v4"] = attention_examples.self_attention(params.seed)
    numbers["scaling"] = attention_examples.scaling(params.seed)
    numbers["toy"] = attention_examples.toy(params.toy_seed)
    return numbers, losses, seconds
