"""sample: what the model writes."""

from pathlib import Path

import click
import torch
from click.core import ParameterSource

from stages import files
from stages.command import StageCommand, file_option, model_option, params_option
from stages.devices import prepare
from stages.logs import log, start_log
from stages.models.store import Saved, load
from stages.params.base import check_section, read_section
from stages.params.compute import ComputeParams
from stages.params.sample import SampleParams
from stages.writing.generate import generate


@click.command(name="sample", cls=StageCommand)
@params_option
@model_option
@file_option("--output", "output", None, "The file for the samples; without it they go to the terminal.")
@click.option("--prompt", help="What to go on from, instead of sample.prompt.")
@click.option("--count", type=int, help="How many samples, instead of sample.count.")
@click.option("--length", type=int, help="Characters a sample, instead of sample.length.")
@click.option("--temperature", type=float, help="Instead of sample.temperature; 0 takes the likeliest character.")
@click.option("--top-k", type=int, help="Instead of sample.top_k.")
@click.option("--seed", type=int, help="Instead of sample.seed.")
def command(params_path: Path, model_folder: Path, output: Path | None, **changes: str | int | float | None) -> None:
    """Let the model write: to the terminal, or to the file that --output names.

    What no option says comes from `sample:` in params.yaml, or, with no such file, from Folio's own defaults.

    Example: folio sample --prompt "ROMEO:" --length 300
    """
    start_log("sample")
    compute, params = _read_params(params_path, changes)
    saved = load(model_folder)
    device = prepare(compute)
    torch.set_num_threads(1)  # one character is too little work to share: a second thread would only be waited for
    samples = write(saved, params, device)
    page = "".join(f"--- sample {number} ---\n{text}\n" for number, text in enumerate(samples, 1))
    if output is None:
        click.echo("\n\n".join(samples))
    else:
        files.write_text(output, page)
        log.info("%s holds %d samples of %d characters", output, params.count, params.length)


def write(saved: Saved, params: SampleParams, device: torch.device) -> list[str]:
    """Draw `params.count` texts, each the prompt and what follows.

    Raises:
        TextError: where the prompt has a character that the model does not know.
    """
    prompt = torch.from_numpy(saved.tokenizer.encode(params.prompt)).long().to(device)
    seeds = [params.seed + index for index in range(params.count)]
    model = saved.model.to(device)
    ids = generate(model, prompt.expand(params.count, -1), params.length, params.temperature, params.top_k, seeds)
    return [params.prompt + saved.tokenizer.decode(row) for row in ids.cpu()]


def _read_params(path: Path, changes: dict[str, str | int | float | None]) -> tuple[ComputeParams, SampleParams]:
    source = click.get_current_context().get_parameter_source("params_path")
    if path.exists() or source != ParameterSource.DEFAULT:
        compute = read_section(path, "compute", ComputeParams)
        params = read_section(path, "sample", SampleParams)
    else:
        compute = ComputeParams(device="auto", threads=0, precision="auto", deterministic=True)
        params = SampleParams(prompt="\n", count=1, length=500, temperature=0.8, top_k=0, seed=1337)
    given = {key: value for key, value in changes.items() if value is not None}
    return compute, check_section(params.model_dump() | given, SampleParams, "sample")


if __name__ == "__main__":
    command()
