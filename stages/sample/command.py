"""The sample stage: generate text with the trained model."""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import torch
from click.core import ParameterSource

from stages.core.compute_params import ComputeParams
from stages.core.device import prepare_device
from stages.core.display import escape_controls
from stages.core.files import write_text
from stages.core.logs import log, start_log
from stages.core.options import FolioCommand, model_option, output_file_option, params_option
from stages.core.params import check_section, read_section
from stages.core.project import log_next_steps
from stages.core.text_files import read_text
from stages.generation.prompts import default_prompt, replace_unknown, unknown_option
from stages.generation.text_model import Sample, TextModel
from stages.models.model_folder import load_model
from stages.sample.interactive import run_interactive
from stages.sample.params import SampleParams

MIN_PARALLEL_SAMPLES = 8  # fewer samples run faster on one thread


@click.command(name="sample", cls=FolioCommand)
@params_option
@model_option
@output_file_option("--output", "output", None, "The file for the samples; by default they are printed.")
@click.option("--prompt", help="The text to continue; overrides sample.prompt.")
@click.option(
    "--prompt-file",
    type=click.Path(path_type=Path, dir_okay=False, allow_dash=True),
    help="A file with the text to continue; - for standard input.",
)
@click.option("--num-samples", type=int, help="The number of samples; overrides sample.num_samples.")
@click.option("--max-new-tokens", type=int, help="The tokens (by default characters) to generate per sample.")
@click.option("--temperature", type=float, help="0: the most likely token; 1: as predicted; higher: more random.")
@click.option("--top-k", type=int, help="Sample from this many of the most likely tokens; 0: all.")
@click.option("--top-p", type=float, help="Sample from the most likely tokens with this total probability.")
@click.option("--min-p", type=float, help="Sample from tokens with at least this share of the highest probability.")
@click.option("--stop", multiple=True, help="End a sample before this text; can be repeated.")
@click.option("--seed", type=int, help="The seed of the first sample; the others use the following numbers.")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda", "mps"]), help="Overrides compute.device.")
@unknown_option
@click.option("--json", "as_json", is_flag=True, help="Print each sample as a line of JSON with its log-probability.")
@click.option("--interactive", is_flag=True, help="Ask for prompts in a loop; Ctrl-C ends a sample.")
def command(
    params_path: Path,
    model_folder: Path,
    output: Path | None,
    prompt_file: Path | None,
    device: str | None,
    unknown: Any,  # noqa: ANN401 - an UnknownPolicy, as checked by Click
    as_json: bool,
    interactive: bool,
    **overrides: Any,  # noqa: ANN401 - options named like keys of `sample:`
) -> None:
    """Generate text: on the terminal, as it is generated, or to the file given by --output.

    Options override `sample:` in params.yaml. Without a params.yaml, the defaults apply, with one sample.

    Example: folio sample --prompt "ROMEO:" --max-new-tokens 300 --stop "JULIET:"
    """
    start_log("sample")
    if interactive and (output is not None or as_json):
        raise click.UsageError("--interactive cannot be used with --output or --json")
    if interactive and overrides["num_samples"] is not None:
        raise click.UsageError("--interactive generates one sample for each prompt; leave out --num-samples")
    if prompt_file is not None:
        overrides["prompt"] = read_prompt(prompt_file, overrides["prompt"])
    compute, params = _read_params(params_path, device, overrides)
    trained = load_model(model_folder)
    torch_device = prepare_device(compute)
    is_small_job = params.num_samples < MIN_PARALLEL_SAMPLES or interactive or sys.stdout.isatty()
    if is_small_job and not compute.threads:
        torch.set_num_threads(1)
    text_model = TextModel(trained, torch_device)
    prompt = default_prompt(text_model.tokenizer) if params.prompt is None else params.prompt
    if interactive:
        run_interactive(text_model, prompt, params, unknown)
        return
    prompt = replace_unknown(prompt, text_model.tokenizer, unknown)
    seeds = [params.seed + index for index in range(params.num_samples)]
    if output is None and not as_json and sys.stdout.isatty():
        for seed in seeds:
            click.echo(escape_controls(prompt), nl=False)
            for piece in text_model.stream(prompt, params, seed):
                click.echo(escape_controls(piece), nl=False)
            click.echo("\n" if seed != seeds[-1] else "")
        return
    samples = text_model.generate_samples(prompt, params, seeds)
    if output is None:
        click.echo(format_json_lines(samples) if as_json else "\n\n".join(sample.text for sample in samples))
        return
    write_text(output, (format_json_lines(samples) if as_json else format_samples(samples)) + "\n")
    unit = text_model.tokenizer.unit
    log.info("%s: %d samples of up to %d %ss", output, params.num_samples, params.max_new_tokens, unit)
    log_next_steps("sample", output, "folio report", "folio sample --interactive")


def format_json_lines(samples: list[Sample]) -> str:
    """Return the samples as lines of JSON."""
    return "\n".join(json.dumps(asdict(sample), ensure_ascii=False) for sample in samples)


def format_samples(samples: list[Sample]) -> str:
    """Return the samples as text, each with a numbered heading."""
    return "\n".join(f"--- sample {number} ---\n{sample.text}" for number, sample in enumerate(samples, 1))


def read_prompt(path: Path, prompt: str | None) -> str:
    """Return the prompt in a file, or on standard input if the path is -.

    Raises:
        UsageError: if `prompt`, the value of --prompt, is set too.
    """
    if prompt is not None:
        raise click.UsageError("--prompt and --prompt-file cannot be used together")
    return read_text(path)


def _read_params(path: Path, device: str | None, overrides: dict[str, Any]) -> tuple[ComputeParams, SampleParams]:
    source = click.get_current_context().get_parameter_source("params_path")
    if path.exists() or source != ParameterSource.DEFAULT:
        compute = read_section(path, "compute", ComputeParams)
        params = read_section(path, "sample", SampleParams)
    else:
        compute, params = ComputeParams(), SampleParams(num_samples=1)
    changes = {key: value for key, value in overrides.items() if value is not None and value != ()}
    if "stop" in changes:
        changes["stop"] = list(changes["stop"])
    compute = compute.model_copy(update={"device": device or compute.device})
    return compute, check_section(params.model_dump() | changes, SampleParams, "sample")
