"""Where the tests train, whatever the machine has."""

from __future__ import annotations

import torch
from personal_restore.lib.vocabulary import Place

CPU = Place(torch.device("cpu"), torch.bfloat16)
