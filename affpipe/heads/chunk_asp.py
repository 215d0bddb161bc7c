"""Chunk-wise attentive statistics pooling: one prediction for each second of an audio window.

After "Team RAS in 10th ABAW Competition", sec. 3.3: the rows of a window are cut into equal temporal chunks, each is pooled to a
weighted mean and a weighted standard deviation (attentive statistics pooling, Okabe et al., 2018: one weight a row), and a shared head
of norm, dropout and linear layers predicts each chunk. Ours: presence mask. The GELU between the two linear layers is the public code's.

Cut: chunk i holds rows [i·n, (i+1)·n) with n = ceil(F / chunks). Rows are evenly spaced in time, so the borders are, and the last
chunk takes what is left. WavLM returns 199 rows for 4 s, since the convolutions drop the tail that does not fill a row (20 ms): n =
50, the borders lie at exactly 1, 2 and 3 s, and the last chunk has 49 rows. The public code rounds i·F / chunks: 50, 50, 49 and 50.
Shapes: B windows, F rows a window, C chunks, D input width, H hidden width, O outputs.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from affpipe.errors import InputError
from affpipe.heads.blocks import check_stream, keep

VARIANCE_FLOOR = 1e-6  # below it the standard deviation is constant: the square root has no finite slope at zero


class AttentiveStatistics(nn.Module):
    """Weighted mean and standard deviation over the present rows of a set."""

    def __init__(self, dim: int, *, hidden: int):
        super().__init__()
        self.score = nn.Sequential(nn.Linear(dim, hidden), nn.Tanh(), nn.Linear(hidden, 1))

    def forward(self, x: Tensor, present: Tensor) -> Tensor:
        """(..., F, D), (..., F) bool -> (..., 2 D): mean, then standard deviation."""
        scores = self.score(x).squeeze(-1)  # (..., F)
        # finfo.min, not -inf: softmax over a set with nothing present would be NaN.
        weights = scores.masked_fill(~present, torch.finfo(scores.dtype).min).softmax(dim=-1).unsqueeze(-1)  # (..., F, 1)
        mean = (weights * x).sum(dim=-2)  # (..., D)
        variance = (weights * (x - mean.unsqueeze(-2)).square()).sum(dim=-2)
        return torch.cat((mean, variance.clamp(min=VARIANCE_FLOOR).sqrt()), dim=-1)


class ChunkHead(nn.Module):
    """Pool the rows of each chunk and predict it with a head that all chunks share."""

    def __init__(self, dim: int, *, chunks: int = 4, hidden: int, attention_hidden: int, dropout: float, outputs: int = 2):
        super().__init__()
        self.dim, self.chunks = dim, chunks
        self.pool = AttentiveStatistics(dim, hidden=attention_hidden)
        self.embed = nn.Sequential(nn.LayerNorm(2 * dim), nn.Dropout(dropout), nn.Linear(2 * dim, hidden), nn.GELU())
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(hidden, outputs))

    def forward(self, x: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        """Predict every chunk.

        Args:
            x: (B, F, D); what stands in absent rows changes nothing.
            present: (B, F) bool.

        Returns:
            prediction: (B, C, O), unbounded, zero in chunks without a present row.
            embedding: (B, C, H), zero in chunks without a present row.

        Raises InputError where F rows leave a chunk empty.
        """
        check_stream("ChunkHead", x, present, self.dim)
        rows = math.ceil(x.shape[1] / self.chunks)
        missing = rows * self.chunks - x.shape[1]
        if rows == 0 or missing >= rows:
            raise InputError(
                f"ChunkHead: want rows that fill {self.chunks} equal chunks, got {x.shape[1]}; use a longer window or fewer chunks"
            )
        x = F.pad(keep(x, present), (0, 0, 0, missing)).unflatten(1, (self.chunks, rows))  # (B, F, D) -> (B, C, n, D)
        present = F.pad(present, (0, missing)).unflatten(1, (self.chunks, rows))  # (B, C, n)
        any_present = present.any(dim=-1)  # (B, C)
        embedding = keep(self.embed(self.pool(x, present)), any_present)  # (B, C, 2 D) -> (B, C, H)
        return keep(self.head(embedding), any_present), embedding
