from typing import cast

import pytest
import torch

from stages.generation.sampling import Choice
from stages.generation.streaming import generate, stream, uniform_numbers
from stages.models import gpt
from stages.models.base import LanguageModel, build
from stages.models.ngram.mixture import opinions
from tests.conftest import model_params
from tests.import_graph import KINDS

SIZE, BLOCK = 7, 12
MODELS = [{"kind": kind} for kind in KINDS] + [
    {"window": 4, "n_layer": 2},
    {"prior": "kneser_ney"},
    {"prior": "kneser_ney", "order": 2},
    {"prior": "kneser_ney", "recent": True, "window": 3, "n_layer": 2},
]


def awake(**changes) -> LanguageModel:
    torch.manual_seed(1)
    model = build(model_params(block_size=BLOCK, **changes), SIZE)
    model.fit(torch.randint(SIZE, (300,)))
    for weight in model.parameters():
        weight.data.normal_(std=0.5)
    return model.eval()


def reread(model: LanguageModel, prompt: torch.Tensor, length: int, seeds: list[int]) -> torch.Tensor:
    """Write by reading everything again for each character."""
    ids, start = prompt, 0
    for luck in uniform_numbers(seeds, length).T:
        if ids.shape[1] - start > BLOCK:
            start = ids.shape[1] - BLOCK // 2
        logits = unbounded(model, ids) if model.params.kind == "gpt" else model(ids[:, start:])
        ids = torch.cat((ids, Choice().pick(logits[:, -1], luck)), dim=1)
    return ids[:, prompt.shape[1] :]


def unbounded(model: LanguageModel, ids: torch.Tensor) -> torch.Tensor:
    """Read a text longer than the block: attention goes back over a block, and so does what counts."""
    params = model.params
    assert isinstance(model, gpt.Model)
    wide = build(params.model_copy(update={"block_size": 1000, "window": params.window or BLOCK}), SIZE).eval()
    wide.load_state_dict(model.state_dict())
    if params.prior == "none":
        return cast(torch.Tensor, wide(ids))
    ends = [ids[:, max(0, end - BLOCK) : end] for end in range(1, ids.shape[1] + 1)]
    log_prior = [opinions(model.prior.rows, model.prior.find(end), end, params.recent)[:, -1] for end in ends]
    return cast(torch.Tensor, wide(ids, torch.stack(log_prior, dim=1)))


@pytest.mark.parametrize("changes", MODELS, ids=str)
def test_reading_each_character_once_writes_what_reading_all_again_writes(changes):
    model, prompt = awake(**changes), torch.tensor([[1, 2, 3], [3, 3, 0]])
    ids = generate(model, prompt, 40, Choice(), [5, 6])  # past the block of 12, three times
    assert torch.equal(ids, reread(model, prompt, 40, [5, 6]))


def test_a_sample_does_not_depend_on_its_neighbours():
    model, prompt = awake(prior="kneser_ney", recent=True), torch.tensor([[1, 2, 3]])
    together = generate(model, prompt.expand(3, -1), 30, Choice(), [7, 8, 9])
    assert torch.equal(together[1:2], generate(model, prompt, 30, Choice(), [8]))
    assert len({tuple(row) for row in together.tolist()}) == 3


def test_a_prompt_longer_than_the_block_is_read_from_its_end():
    model, prompt = awake(), torch.arange(40)[None] % SIZE
    assert torch.equal(
        generate(model, prompt, 5, Choice(0.0), [1]), generate(model, prompt[:, -12:], 5, Choice(0.0), [1])
    )


def test_log_probabilities_are_the_model_s_own_whatever_was_chosen():
    model, prompt = awake(), torch.tensor([[1, 2, 3]])
    made = list(stream(model, prompt, 4, Choice(temperature=0.3, top_k=2), [1]))
    ids = torch.cat([prompt, *(each for each, _ in made)], dim=1)
    expected = model(ids[:, :-1]).log_softmax(-1).gather(-1, ids[:, 1:, None])[0, 2:, 0]
    torch.testing.assert_close(torch.cat([log for _, log in made], dim=1)[0], expected)
