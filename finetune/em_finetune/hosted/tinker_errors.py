"""What Tinker's client raises, in the words of refusals.yaml."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from em_finetune.hosted.refusals import Context, refusal, refusal_of, unreachable
from em_finetune.hosted.service import UnclearError
from em_finetune.hosted.service_error import ServiceError


@contextmanager
def explained(context: Context) -> Iterator[None]:
    """Turn the client's errors inside the block into `UserError` or `UnclearError`."""
    import tinker

    try:
        yield
    except tinker.APITimeoutError:
        raise UnclearError(unreachable(context, slow=True)) from None
    except tinker.APIConnectionError:
        raise UnclearError(unreachable(context, slow=False)) from None
    except tinker.APIStatusError as error:
        said = ServiceError.of_body(error.status_code, error.body or error.message)
        told = refusal_of(said, context)
        turned_away = error.status_code == 429
        raise (UnclearError(told, nothing_done=turned_away) if said.passes else told) from None
    except (tinker.TinkerError, ValueError) as error:
        # A promise that failed for good raises ValueError.
        raise refusal(400, "", str(error), context) from None
