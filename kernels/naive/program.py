"""A recorded step by the loops: call by call."""

from __future__ import annotations

from fastnn.kernels.graph import CallByCall

Replay = CallByCall
