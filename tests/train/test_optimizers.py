import torch
from torch.optim import AdamW

from stages.models.base import build_model
from stages.train.muon import Muon
from stages.train.optimizers import make_optimizers
from tests.conftest import model_params, train_params


def test_muon_moves_the_blocks_and_adam_the_rest_each_weight_once():
    model = build_model(model_params(prior="kneser_ney"), 9)
    muon, adam = make_optimizers(model, train_params(lr=0.1, lr_embedding=0.2, lr_head=0.3), torch.float32)
    assert isinstance(muon, Muon)
    names = {id(weight): name for name, weight in model.named_parameters()}
    moved = [
        {names[id(weight)] for weight in group["params"]}
        for optimizer in (muon, adam)
        for group in optimizer.param_groups
    ]
    assert moved == [
        {"blocks.0.qkv", "blocks.0.attention_out", "blocks.0.mlp_up", "blocks.0.mlp_down"},
        {"embedding.weight"},
        {"head", "log_prob_projection", "score_projection", "expert_bias", "hidden_gate", "score_gate"},
    ]
    assert [group["base_lr"] for optimizer in (muon, adam) for group in optimizer.param_groups] == [0.1, 0.2, 0.3]


def test_a_model_without_blocks_needs_no_muon():
    model = build_model(model_params(kind="bigram"), 9)
    assert [type(optimizer) for optimizer in make_optimizers(model, train_params(), torch.float32)] == [AdamW]


def test_adamw_moves_everything():
    model = build_model(model_params(), 9)
    (adamw,) = make_optimizers(model, train_params(optimizer="adamw", lr=0.1), torch.float32)
    assert sum(len(group["params"]) for group in adamw.param_groups) == len(list(model.parameters()))
    assert adamw.param_groups[0]["base_lr"] == 0.1


def test_weight_decay_applies_to_what_lr_applies_to():
    model = build_model(model_params(), 9)
    muon, adam = make_optimizers(model, train_params(weight_decay=0.3), torch.float32)
    assert [group["weight_decay"] for group in muon.param_groups] == [0.3]
    assert all(group["weight_decay"] == 0 for group in adam.param_groups)
    (adamw,) = make_optimizers(model, train_params(weight_decay=0.3, optimizer="adamw"), torch.float32)
    assert adamw.param_groups[0]["weight_decay"] == 0.3
