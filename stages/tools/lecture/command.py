"""lecture: the notebook of "Let's build GPT", number by number, and a page that explains it."""

from pathlib import Path
from typing import Any

import click
import torch
from torch import Tensor

from stages.core import files
from stages.core.logs import log, start_log
from stages.core.options import StageCommand, corpus_option, output_file_option, output_folder_option, params_option
from stages.core.params import read_section
from stages.core.text_files import DOWNLOAD, read_text
from stages.metrics.ngram_baselines import bigram_loss
from stages.tokenize.splitting import cut_at
from stages.tokenizers.char import CharTokenizer
from stages.tools.lecture import lecture_page, self_attention, text_examples
from stages.tools.lecture.bigram_training import bigram
from stages.tools.lecture.params import LectureParams


@click.command(name="lecture", cls=StageCommand)
@params_option
@corpus_option
@output_file_option("--numbers", "numbers_path", "reports/lecture.json", "The file for the numbers.")
@output_folder_option(
    "--pages", "pages", "reports/lecture", "The folder for the page, its tables (CSV) and pictures (SVG)."
)
def command(params_path: Path, corpus_path: Path, numbers_path: Path, pages: Path) -> None:
    """Do what the notebook of the lecture does, on CPU and in float32, and explain it on a page.

    `dvc repro lecture/dvc.yaml` runs it. With the seeds and steps of params.yaml the numbers are the notebook's.

    Example: folio lecture --numbers reports/lecture.json --pages reports/lecture
    """
    start_log("lecture")
    params = read_section(params_path, "lecture", LectureParams)
    torch.set_num_threads(1)  # tables of this size only wait for a second one
    corpus = read_text(corpus_path, DOWNLOAD)
    tokenizer = CharTokenizer.of(corpus)
    ids = torch.from_numpy(tokenizer.encode(corpus)).long()
    train, val = ids.tensor_split([cut_at(len(ids), 0.1, str(corpus_path))])
    numbers, losses, seconds = work_out(corpus, tokenizer, train, val, params)
    files.write_json(numbers_path, numbers)
    counting = bigram_loss(train.numpy(), val.numpy(), len(tokenizer))
    lecture_page.write(pages, numbers, text_examples.tables(numbers, tokenizer), losses, seconds, counting)
    log.info("%s holds the numbers, %s explains them", numbers_path, pages / "index.html")


def work_out(
    corpus: str, tokenizer: CharTokenizer, train: Tensor, val: Tensor, params: LectureParams
) -> tuple[dict[str, Any], list[float], list[float]]:
    """Go through the notebook; give its numbers, the loss of every step of training, and the seconds it took."""
    numbers = text_examples.characters(corpus, tokenizer) | text_examples.blocks(train, val)
    batch, xb, yb = text_examples.batch(train, params.seed)
    trained, losses, seconds = bigram(train, xb, yb, tokenizer, params)
    numbers |= batch | {"bigram": trained}
    numbers |= self_attention.averages(params.seed)
    numbers["v4"] = self_attention.self_attention(params.seed)
    numbers["scaling"] = self_attention.scaling(params.seed)
    numbers["toy"] = self_attention.toy(params.toy_seed)
    return numbers, losses, seconds
