# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # The lecture, number by number
#
# This notebook follows Andrej Karpathy's lecture ["Let's build GPT: from scratch, in code, spelled
# out"](https://www.youtube.com/watch?v=kCc8FmEb1nY) from a bigram table to self-attention. Wherever Folio has a part for a
# step, the notebook uses it, so that you can look up how it works. Seeds and operations are those of the lecture, and so are the
# numbers, except in sections 3 and 4: batches are sampled here from one position less than in the video, and stay at four windows
# where the video later takes thirty-two.
#
# The text is tinyshakespeare, the default of `download.corpus`: run `dvc repro download` or `folio download` first.

# %%
import math
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
import torch
from torch import nn
from torch.nn import functional as F

from stages.models.attention import attention
from stages.models.bigram import Bigram
from stages.models.params import ModelParams
from stages.tokenizers.char import CharTokenizer

torch.set_num_threads(1)  # the tensors are too small for several threads
torch.set_printoptions(precision=4, sci_mode=False, linewidth=120)
project = next(folder for folder in (Path.cwd(), *Path.cwd().parents) if (folder / "params.yaml").exists())

# %% [markdown]
# ## 1. Characters
#
# The text is a string. Its first hundred characters:

# %%
text = (project / "data/raw/corpus.txt").read_text(encoding="utf-8")
assert len(text) == 1115394, "this is another text than the lecture's"
print(len(text), "characters")
print(text[:100])

# %% [markdown]
# The distinct characters, sorted, form the vocabulary. The id of a character is its index in it
# (`stages/tokenizers/char.py`).

# %%
tokenizer = CharTokenizer.from_text(text)
vocab_size = len(tokenizer)
print(vocab_size, "characters:", repr("".join(tokenizer.characters)))
print(tokenizer.encode("Bee3").tolist())
print(tokenizer.decode(tokenizer.encode("Bee3")))

# %% [markdown]
# A character that the text lacks has no id:

# %%
try:
    tokenizer.encode("Bee7")
except Exception as error:
    print(error)

# %% [markdown]
# **Characters or subwords?** With a vocabulary of characters, the embedding table and the output layer are small, and every
# text of these characters can be encoded. But sequences are long, and a model must learn to spell. Larger models use
# subwords: tens of thousands of ids, and sequences three to four times shorter. `tokenize.kind: bpe` tries it.
#
# The whole text becomes one tensor of ids. Here are the first fifteen, with their characters:

# %%
data = torch.from_numpy(tokenizer.encode(text)).long()
pd.DataFrame([data[:15].tolist(), list(text[:15])], index=["id", "character"])

# %% [markdown]
# ## 2. Blocks
#
# The first nine tenths are for training, the rest for validation: a model that only memorizes has a low loss on the first and
# a high loss on the second.

# %%
split = int(0.9 * len(data))
train, val = data[:split], data[split:]
block_size = 8
print(len(train), len(val))
print("x_0 =", train[:block_size].tolist())
print("x_1 =", train[block_size : 2 * block_size].tolist())

# %% [markdown]
# **Why does a block need one more character than its size?** A block of eight holds eight examples: each position is the end of
# a context, and the next character is its target. The eighth context needs a ninth character as its target.

# %%
x, y = train[:block_size], train[1 : block_size + 1]
for t in range(block_size):
    print(f"when input is {x[: t + 1].tolist()} the target is {y[t]}")

# %% [markdown]
# Contexts of every length from one to eight occur, so that the model can later generate from a single character.
#
# ## 3. A batch
#
# Four windows are sampled at random positions and stacked.

# %%
batch_size = 4
torch.manual_seed(1337)


def sample_batch():
    """Return the inputs and the targets of a batch, (B, T) each."""
    starts = torch.randint(len(train) - block_size - 1, (batch_size,))
    positions = starts[:, None] + torch.arange(block_size)
    return train[positions], train[positions + 1]


xb, yb = sample_batch()
print(xb)
print(yb)

# %% [markdown]
# These are thirty-two examples:

# %%
for b in range(batch_size):
    for t in range(block_size):
        print(f"when input is {xb[b, : t + 1].tolist()} the target is {yb[b, t]}")

# %% [markdown]
# **Do the examples of a batch interact?** The four sequences do not. They are computed together only because hardware is fast at
# doing the same to many numbers; their gradients are averaged. Within a sequence, positions will interact, by attention.
#
# **Batch size or block size?** A larger batch makes the gradient less noisy. A longer block gives the model more context, and
# the cost of attention grows with its square. Everything else grows with the product of the two.
#
# ## 4. The simplest model: a table
#
# A bigram model (`stages/models/bigram.py`) looks up one row of a table for each character. The row holds the **logits** of the
# next character: any real numbers, which **softmax** turns into probabilities. **Cross-entropy** is the mean of −ln of the
# probability of the actual character, in nats.

# %%
torch.manual_seed(1337)
model = Bigram(ModelParams(kind="bigram", block_size=block_size), vocab_size)
logits = model(xb)
initial_loss = F.cross_entropy(logits.flatten(0, 1), yb.flatten())
print(logits.shape, logits[0, 0, :3].tolist())
print("loss", initial_loss.item(), "and of a uniform distribution", math.log(vocab_size))

# %% [markdown]
# The new model is worse than a uniform distribution: random logits are confident, and mostly wrong.
#
# **When would the number of embeddings differ from their dimension?** `nn.Embedding(num_embeddings, embedding_dim)` is a table
# with a row for each id. Here a row holds logits, so it is as wide as the vocabulary, and the table is square, 65 × 65. In every
# later model a row is a vector of features, of any width, such as 32, and a linear layer turns features into 65 logits.
#
# **Why are the logits computed before the early exit?** In the lecture, `forward(idx, targets=None)` returns early without a
# loss if there are no targets. Generation needs the logits, and there are no targets then. Folio's models only return logits, and
# whoever needs a loss computes it.
#
# **Why is the loss ignored in `generate`?** `generate` calls `forward` without targets, so the loss is `None`. The text that
# follows does not exist yet, so there is nothing to compare with.
#
# **Does a bigram model have biases?** It needs none. A bias would be added to the logits of each character whatever comes before;
# a table with a free entry for every pair of characters can already hold that.
#
# A sample before training, drawn character by character:

# %%


@torch.no_grad()
def generate(length):
    """Return characters sampled after id 0, the line break, without changing the state of the generator."""
    state = torch.get_rng_state()
    ids = [0]
    for _ in range(length):
        probabilities = model(torch.tensor([ids[-1:]]))[0, -1].softmax(-1)
        ids.append(int(torch.multinomial(probabilities, 1)))
    torch.set_rng_state(state)
    return tokenizer.decode(ids[1:])


sample_before = generate(100)
print(sample_before)

# %% [markdown]
# Training repeats three operations: sample a batch, compute the loss and its gradient, take a step.

# %%


def take_step(model, optimizer):
    """Train on one batch and return its loss."""
    xb, yb = sample_batch()
    loss = F.cross_entropy(model(xb).flatten(0, 1), yb.flatten())
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
    return loss.item()


STEPS = (1_000, 10_000, 100_000)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
losses, loss_at = [], {}
for steps in STEPS:
    while len(losses) < steps:
        losses.append(take_step(model, optimizer))
    loss_at[steps] = losses[-1]
    if steps == 10_000:
        trained_logits, sample_after = model.table.weight[0, :6].tolist(), generate(300)
print("loss of the last batch:", loss_at)
print("mean of the last thousand:", sum(losses[-1000:]) / 1000)
with torch.no_grad():
    print("on the validation text:", F.cross_entropy(model.table.weight[val[:-1]], val[1:]).item())

# %% [markdown]
# After 10,000 steps, the first six logits after a line break, and a sample. It has lines, names and word-like strings, although
# each character depends on the previous one only.

# %%
if 10_000 in STEPS:
    print(trained_logits)
    print(sample_after)

# %%
counts = torch.zeros(vocab_size, vocab_size).index_put_(
    (train[:-1], train[1:]), torch.ones(len(train) - 1), accumulate=True
)
log_probabilities = ((counts + 1) / (counts + 1).sum(1, keepdim=True)).log()
counted_train, counted_val = (-log_probabilities[part[:-1], part[1:]].mean().item() for part in (train, val))
print("loss of counts of pairs:", counted_train, "on the training text,", counted_val, "on the validation text")
smooth = pd.Series(losses).rolling(100).mean()
figure, axes = plt.subplots(figsize=(8, 3))
axes.semilogx(range(1, len(losses) + 1), smooth, label="mean of 100 batches")
axes.axhline(math.log(vocab_size), color="grey", linestyle=":", label="uniform")
axes.axhline(counted_train, color="C1", linestyle="--", label="counts of pairs, on the training text")
axes.set(xlabel="step", ylabel="loss, nats per character")
axes.legend()
plt.show()

# %% [markdown]
# The loss on training batches falls to what counting pairs gives on the training text, and no further: the table can hold nothing
# else. One long run of the same steps (`python -m benchmarks.bigram`) shows that more of them hardly help:
#
# | steps | last batch | mean of the last 1,000 | validation text |
# | ---: | ---: | ---: | ---: |
# | 1,000 | 4.1940 | 4.3668 | 4.0474 |
# | 10,000 | 2.6720 | 2.5587 | 2.5516 |
# | 100,000 | 2.3793 | 2.4562 | 2.4944 |
# | 1,000,000 | 2.1843 | 2.4556 | 2.4946 |
# | 10,000,000 | 2.4347 | 2.4508 | 2.4919 |
#
# A batch has only 32 characters, so the loss of the last one says little: it is lower after a million steps than after ten million.
#
# **Momentum and AdamW, instead of plain SGD?** SGD subtracts the gradient times a learning rate. Momentum subtracts a decaying sum
# of all gradients so far: noise cancels, and steady directions add up, with 0.9 to ten times one gradient. Adam subtracts a running
# mean of the gradients, with each entry divided by the running root mean square of its own gradients. Here that matters: `q` is some
# 270 times rarer than the space, and SGD moves its row that much less; the division shrinks this gap to several times. AdamW is Adam
# with weight decay that is applied to the weights themselves instead of being added to the gradients.
#
# The same table after 2,000 steps with each, from the same beginning and with the same batches:


# %%
def train_with(make_optimizer, steps=2_000):
    """Return the mean loss of the last 100 of some steps with another optimizer."""
    state = torch.get_rng_state()
    torch.manual_seed(1337)
    other = Bigram(ModelParams(kind="bigram", block_size=block_size), vocab_size)
    optimizer = make_optimizer(other.parameters())
    found = [take_step(other, optimizer) for _ in range(steps)]
    torch.set_rng_state(state)
    return sum(found[-100:]) / 100


by_optimizer = {
    "SGD, lr 0.001": train_with(lambda weights: torch.optim.SGD(weights, lr=1e-3)),
    "SGD, lr 1": train_with(lambda weights: torch.optim.SGD(weights, lr=1.0)),
    "SGD, lr 10": train_with(lambda weights: torch.optim.SGD(weights, lr=10.0)),
    "SGD with momentum 0.9, lr 1": train_with(lambda weights: torch.optim.SGD(weights, lr=1.0, momentum=0.9)),
    "AdamW, lr 0.001": train_with(lambda weights: torch.optim.AdamW(weights, lr=1e-3)),
    "AdamW, lr 0.01": train_with(lambda weights: torch.optim.AdamW(weights, lr=1e-2)),
}
pd.Series(by_optimizer, name="loss").round(3).to_frame()

# %% [markdown]
# **Do training cells leave something behind if they are run again?** Yes. `model` keeps its weights, `optimizer` its running
# means, and PyTorch's generator its state. A second run continues and prints other numbers. "Restart kernel and run all" gives
# those of the page.
#
# ## 5. Averages of the past
#
# To do better, a position must use what came before it. The simplest way is the mean of all vectors so far. First with loops:

# %%
torch.manual_seed(1337)
B, T, C = 4, 8, 2
x = torch.randn(B, T, C)
xbow = torch.zeros(B, T, C)
for b in range(B):
    for t in range(T):
        xbow[b, t] = x[b, : t + 1].mean(0)
print(x[0])
print(xbow[0])

# %% [markdown]
# The same with a matrix. A small example first: a product with a matrix of ones adds up all rows, with its lower triangle
# (`tril`) the rows so far, and with rows divided by their sum it averages them.

# %%
torch.manual_seed(42)
a = torch.ones(3, 3)
b = torch.randint(0, 10, (3, 2)).float()
tril = torch.tril(a)
averaging = tril / tril.sum(1, keepdim=True)
print("a @ b =", a @ b, "", "tril =", tril, "", "tril @ b =", tril @ b, "", "averaging @ b =", averaging @ b, sep="\n")

# %%
weights = torch.tril(torch.ones(T, T))
weights = weights / weights.sum(1, keepdim=True)
xbow2 = weights @ x  # (T, T) @ (B, T, C) -> (B, T, C)
print(torch.allclose(xbow, xbow2, atol=1e-6))

# %% [markdown]
# **How can (T, T) be multiplied by (B, T, C)?** `@` multiplies the last two dimensions as matrices, and broadcasts those before
# them: (T, T) becomes (1, T, T), and the one is repeated B times. Each sequence of the batch is multiplied by the same matrix, and
# sequences do not mix.
#
# A third way: start with zeros, write −∞ where the future is, and take the softmax of each row. e⁰ is 1 and e^−∞ is 0, so that
# dividing by the sum gives the same weights.

# %%
scores = torch.zeros(T, T).masked_fill(torch.tril(torch.ones(T, T)) == 0, -torch.inf)
print(scores)
xbow3 = scores.softmax(dim=-1) @ x
print(torch.allclose(xbow, xbow3, atol=1e-6))

# %% [markdown]
# **Why is the mask (T, T)?** It says, for each position that receives (a row), from which positions (columns) it may. That is
# the same for every sequence and every channel.
#
# **Why dim = −1?** A row holds the weights of one position over all positions that it may receive from, and these must add up to
# one. Along dim = −2 the columns would.
#
# **Is a convolution an implicit attention?** Both are weighted sums over positions. A convolution's weights depend on the distance
# only, are the same everywhere, and are fixed after training; the mean above depends on neither data nor distance. Attention
# computes its weights from the data at hand, for any distance.
#
# ## 6. Self-attention
#
# Now the scores depend on the data. Every position has a **query** (what it looks for), a **key** (what it contains) and a
# **value** (what it passes on). The dot product of a query and a key is the score.

# %%
torch.manual_seed(1337)
B, T, C = 4, 8, 32
head_size = 16
x = torch.randn(B, T, C)
key, query, value = (nn.Linear(C, head_size, bias=False) for _ in range(3))
with torch.no_grad():
    k, q, v = key(x), query(x), value(x)  # (B, T, head_size)
print("k", k.shape, k[0, 7])
print("q", q.shape, q[0, 7])
raw_scores = q @ k.mT  # (B, T, head_size) @ (B, head_size, T) -> (B, T, T)
print("raw scores of the first sequence")
print(raw_scores[0])

# %%
masked_scores = raw_scores.masked_fill(torch.tril(torch.ones(T, T)) == 0, -torch.inf)
wei = masked_scores.softmax(dim=-1)
out = wei @ v
print(wei[0])
print("out[0] =", out[0], sep="\n")

# %% [markdown]
# Folio's attention function (`stages/models/attention.py`) gives the same. It scales the scores, which the lecture does later, so
# the queries are multiplied by the inverse here.

# %%
ours = attention((q * head_size**0.5)[:, None], k[:, None], v[:, None])[:, 0]
print(torch.allclose(ours, out, atol=1e-5))
print("weights @ x would be", tuple((wei @ x).shape), "and weights @ v is", tuple(out.shape))

# %% [markdown]
# **Row 8 of the weights, step by step.** The last row above says from where the eighth position receives: 0.2297 from the fourth,
# 0.2423 from the seventh, 0.2391 from the eighth, itself, and little from the others. Why these?
#
# 1. The eighth position has a vector `x[0, 7]` of 32 numbers. `query` multiplies it by a matrix: `q[0, 7]`, 16 numbers.
# 2. The fourth position has its own vector, and `key` makes `k[0, 3]` of it.
# 3. Their dot product is one number, the score. It is large if the two point in the same direction.
# 4. The same with every position so far gives eight scores. Nothing is masked, as the eighth position is the last one.
# 5. Softmax takes e to the power of each and divides by the sum: e^0.5899 = 1.804, of 7.853, is 0.2297, and e^0.6303 = 1.878 is
#    0.2391. A score that is higher by 0.04 gets 4 % more weight.
# 6. The output is the sum of the eight values, each times its weight: 0.2297 of `v[0, 3]`, 0.2391 of `v[0, 7]`, and so on.

# %%
row = 7
row_scores = torch.stack([(q[0, row] * k[0, position]).sum() for position in range(T)])
powers = row_scores.exp()
row_weights = powers / powers.sum()
row_out = sum(row_weights[position] * v[0, position] for position in range(T))
print(torch.allclose(row_weights, wei[0, row]), torch.allclose(row_out, out[0, row], atol=1e-6))
pd.DataFrame({"score": row_scores, "e^score": powers, "weight": row_weights}, index=range(1, T + 1)).round(4)

# %% [markdown]
# **I still don't get it: what do the fourth and the eighth position have in common?** Here, nothing. `x` is random, and so are the
# matrices. By chance, the query of the eighth position points in a similar direction as these three keys. Training changes the
# matrices until the queries find keys that are useful: a vowel may learn to look for the consonants before it.
#
# **Three linear layers, or one?** The three can be one layer of three times the width whose output is split; the result is the
# same, and one large product is faster than three small ones. Folio's `gpt` does that (`qkv` in `stages/models/gpt_block.py`), and its
# `head` has three, as in the lecture.
#
# **Why a linear layer to head_size?** It chooses what of the 32 channels the head compares and passes on. A head has fewer channels
# than the model so that several heads together cost as much as one wide head: 32 channels are two heads of 16, or four of eight.
#
# **Why 32 channels?** No reason but that it is small, and a power of two. Before, there were two channels, so that they could be
# printed.
#
# - **Attention is communication over a directed graph.** Every node holds a vector, and collects the vectors of the nodes that
#   point to it, with weights that depend on the data. Here node t receives from nodes 0 … t.
# - **It has no notion of order.** Its nodes are a set. Positions must be added to the embeddings, as in the lecture, or rotate
#   queries and keys, as in Folio's `gpt`.
# - **Encoder, decoder, cross-attention.** With the triangular mask it is a decoder, which can generate. Without it, every node
#   receives from every other one: an encoder, for a text that is complete. With keys and values from another sequence it is
#   cross-attention, for example from a translation to its source.
#
# ## 7. Why scores are scaled
#
# If queries and keys have a variance of one, the variance of their dot products is the head size, and dividing by its root brings
# it back to one.

# %%
torch.manual_seed(1337)
q, k = torch.randn(B, T, head_size), torch.randn(B, T, head_size)
unscaled = q @ k.mT
scaled = unscaled * head_size**-0.5
print("variance of q", q.var().item(), "of k", k.var().item())
print("variance of the scores", unscaled.var().item(), "scaled", scaled.var().item())

# %% [markdown]
# Softmax of large scores is close to one-hot: one position gets almost all of the weight, the others almost no gradient, and a new
# model would copy from one random position.

# %%
print(torch.tensor([0.1, -0.2, 0.3, -0.2, 0.5]).softmax(-1))
print((8 * torch.tensor([0.1, -0.2, 0.3, -0.2, 0.5])).softmax(-1))
softmax_of_large = torch.tensor([[5, 6, 7, 8], [1.1, 2.1, 3.1, 4.1]]).softmax(-1)
softmax_of_small = torch.tensor([[0.0560, 0.4175, 0.3114, 0.9418], [0.9193, 0.1046, 0.0022, 0.0089]]).softmax(-1)
print(softmax_of_large, softmax_of_small, sep="\n")

# %% [markdown]
# The two rows of the first matrix are equal although their numbers differ: softmax depends on differences only.
#
# ## 8. Footnotes: shapes
#
# - **view** gives the same memory another shape. It never copies, and fails if the elements do not lie in the memory in that order.
# - **reshape** is the same, but copies if it must.
# - **−1** stands for what is left: of 12 elements in 2 rows, each has 6.
# - **squeeze** removes dimensions of size one; **[:, None]** inserts one.
# - **.T** and **.mT** swap dimensions without moving anything in memory, which is why `view` may refuse the result.
# - **keepdim** leaves a dimension of size one where a sum was taken, so that the result can be broadcast against the original.

# %%
numbers = torch.arange(12)
grid = numbers.view(3, 4)
print(grid, "shares memory:", grid.data_ptr() == numbers.data_ptr())
try:
    grid.T.view(12)
except RuntimeError as error:
    print("view of the transpose:", str(error).split(".")[0])
print("reshape of the transpose:", grid.T.reshape(12).tolist())
print("reshape(2, -1):", numbers.reshape(2, -1).tolist())
print("squeeze of (1, 12, 1):", tuple(numbers.view(1, 12, 1).squeeze().shape))
print("sum with keepdim:", tuple(grid.sum(1, keepdim=True).shape), "without:", tuple(grid.sum(1).shape))

# %% [markdown]
# ## 9. The remaining models
#
# Several heads, feed-forward layers, residual connections, layer norm and dropout turn this into a GPT. Each step of the lecture
# is a model in `stages/models/`, which the pipeline trains like any other, for example with
# `dvc exp run -S model.kind=head`:
#
# | model | adds |
# | --- | --- |
# | `bigram` | the table above |
# | `average` | the mean of all embeddings so far |
# | `head` | one head of self-attention |
# | `multihead` | several heads side by side |
# | `block` | a feed-forward layer, residual connections and layer norm |
# | `lecture_gpt` | several blocks, and dropout: the GPT of the lecture |
