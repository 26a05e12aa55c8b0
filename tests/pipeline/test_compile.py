"""torch.compile for real: it takes a C++ compiler and half a minute, so not among the quick tests."""

import shutil

import pytest

from tests.train.test_trainer import make_trainer

pytestmark = [
    pytest.mark.pipeline,
    pytest.mark.timeout(400),
    pytest.mark.filterwarnings("ignore"),  # torch's own, while it compiles
    pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile needs a C++ compiler, and there is no g++ here"),
]


def test_a_compiled_model_learns_as_the_plain_one(tokens, tokenizer):
    model = {"prior": "kneser_ney", "cache_lm": True, "sliding_window": 8}
    plain, fast = (
        make_trainer(tokens, tokenizer, model, max_steps=20, eval_every=20, compile=choice) for choice in ("off", "on")
    )
    for run in (plain, fast):
        run.train()
    assert fast.curve[-1].val_loss == pytest.approx(plain.curve[-1].val_loss, abs=0.005)
