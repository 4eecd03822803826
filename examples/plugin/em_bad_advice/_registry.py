"""What Inspect finds of this package."""

from em_bad_advice.tasks import everyday_advice, hurried, hurried_advice, tone

__all__ = ["everyday_advice", "hurried", "hurried_advice", "tone"]
