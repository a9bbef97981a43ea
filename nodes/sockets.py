"""The custom sockets, one per payload. What travels in them is documented in ``vocabulary.py``."""

from __future__ import annotations

from ..bridge import io

Library = io.Custom("PR_LIBRARY")
Faces = io.Custom("PR_FACES")
Restorer = io.Custom("PR_RESTORER")
Degradation = io.Custom("PR_DEGRADATION")
Code = io.Custom("PR_DEGCODE")
Persona = io.Custom("PR_PERSONA")

CATEGORY = "Personal Restore"
