"""sample: what the model writes."""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import torch
from click.core import ParameterSource

from stages.core import files
from stages.core.device import ComputeParams, prepare
from stages.core.logs import log, start_log
from stages.core.options import StageCommand, model_option, output_file_option, params_option
from stages.core.params import check_section, read_section
from stages.core.text_files import read_text
from stages.generation.prompts import known_text, unknown_option
from stages.generation.sampling import Choice
from stages.generation.text_model import Writer
from stages.models.model_folder import load
from stages.sample.interactive import talk
from stages.sample.params import SampleParams

FEW = 8  # samples side by side


@click.command(name="sample", cls=StageCommand)
@params_option
@model_option
@output_file_option("--output", "output", None, "The file for the samples; without it they go to the terminal.")
@click.option("--prompt", help="What to go on from, instead of sample.prompt.")
@click.option(
    "--prompt-file",
    type=click.Path(path_type=Path, dir_okay=False, allow_dash=True),
    help="A file with what to go on from; - for standard input.",
)
@click.option("--count", type=int, help="How many samples, instead of sample.count.")
@click.option("--length", type=int, help="Tokens (characters, by default) a sample, instead of sample.length.")
@click.option("--temperature", type=float, help="0: the likeliest token; 1: as the model believes; above: wilder.")
@click.option("--top-k", type=int, help="Draw among so many of the likeliest tokens; 0: among all.")
@click.option("--top-p", type=float, help="Draw among the likeliest that hold this much probability together.")
@click.option("--min-p", type=float, help="Draw among those at least this part as likely as the likeliest.")
@click.option("--stop", multiple=True, help="A text to stop before; may be given again.")
@click.option("--seed", type=int, help="Of the first sample; the next ones count on.")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda", "mps"]), help="Instead of compute.device.")
@unknown_option
@click.option("--json", "as_json", is_flag=True, help="A line of JSON a sample, with seed, log-probability and bits.")
@click.option("--interactive", is_flag=True, help="Ask for prompts, one after another; Ctrl-C ends a sample.")
def command(
    params_path: Path,
    model_folder: Path,
    output: Path | None,
    prompt_file: Path | None,
    device: str | None,
    unknown: Any,  # noqa: ANN401 - one of `Unknown`, as click checked
    as_json: bool,
    interactive: bool,
    **changes: Any,  # noqa: ANN401 - options named like keys of `sample:`
) -> None:
    """Let the model write: to the terminal, as it is made, or to the file that --output names.

    What no option says comes from `sample:` in params.yaml, or, with no such file, from Folio's own defaults.

    Example: folio sample --prompt "ROMEO:" --length 300 --stop "JULIET:"
    """
    start_log("sample")
    if prompt_file is not None:
        changes["prompt"] = read_prompt(prompt_file, changes["prompt"])
    compute, params = _read_params(params_path, device, changes)
    saved = load(model_folder)
    where = prepare(compute)
    if params.count < FEW or interactive or sys.stdout.isatty():
        torch.set_num_threads(1)  # so little work is not worth sharing: a second thread would only be waited for
    writer = Writer(saved, where)
    choice = Choice(params.temperature, params.top_k, params.top_p, params.min_p)
    if interactive:
        talk(writer, params, choice, unknown)
        return
    prompt = known_text(params.prompt, writer.tokenizer, unknown)
    seeds = [params.seed + index for index in range(params.count)]
    if output is None and not as_json and sys.stdout.isatty():
        for seed in seeds:
            click.echo(prompt, nl=False)
            for piece in writer.stream(prompt, params.length, choice, seed, params.stop):
                click.echo(piece, nl=False)
            click.echo("\n" if seed != seeds[-1] else "")
        return
    samples = writer.write(prompt, params.length, choice, seeds, params.stop)
    texts = [sample.text for sample in samples]
    if as_json:
        shown = "\n".join(json.dumps(asdict(sample)) for sample in samples)
    elif output:
        shown = "\n".join(f"--- sample {number} ---\n{text}" for number, text in enumerate(texts, 1))
    else:
        shown = "\n\n".join(texts)
    if output is None:
        click.echo(shown)
    else:
        files.write_text(output, shown + "\n")
        log.info("%s holds %d samples of %d %ss", output, params.count, params.length, writer.tokenizer.unit)
        log.info("next: folio report, folio sample --interactive")


def read_prompt(path: Path, other: str | None) -> str:
    """Read the prompt from a file, or from standard input (-)."""
    if other is not None:
        raise click.UsageError("--prompt and --prompt-file are both given; give one")
    return sys.stdin.read() if str(path) == "-" else read_text(path)


def _read_params(path: Path, device: str | None, changes: dict[str, Any]) -> tuple[ComputeParams, SampleParams]:
    source = click.get_current_context().get_parameter_source("params_path")
    if path.exists() or source != ParameterSource.DEFAULT:
        compute = read_section(path, "compute", ComputeParams)
        params = read_section(path, "sample", SampleParams)
    else:
        compute = ComputeParams(device="auto", threads=0, precision="auto", deterministic=True)
        params = SampleParams(
            prompt="\n", count=1, length=500, temperature=0.8, top_k=0, top_p=1.0, min_p=0.0, stop=[], seed=1337
        )
    given = {key: value for key, value in changes.items() if value is not None and value != ()}
    if "stop" in given:
        given["stop"] = list(given["stop"])
    compute = compute.model_copy(update={"device": device or compute.device})
    return compute, check_section(params.model_dump() | given, SampleParams, "sample")
