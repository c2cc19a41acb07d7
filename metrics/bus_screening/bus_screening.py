"""What `evaluate.load` loads from this folder; the metric itself is part of bus_hf."""

from bus_hf.evaluation.screening import BusScreening

__all__ = ["BusScreening"]
