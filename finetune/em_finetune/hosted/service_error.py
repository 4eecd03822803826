"""A service's refusal as it came: status, code, the field it is about, and its words."""

from __future__ import annotations

from dataclasses import dataclass

from em_inspect.error_body import error_field, error_message

_QUOTA = frozenset({"insufficient_quota", "billing_hard_limit_reached", "exceeded_quota"})


@dataclass(frozen=True)
class ServiceError:
    """What a service said when it refused a request, or failed a job.

    Attributes:
        status: HTTP status; None where a job failed.
        code: Its code, or empty.
        message: Its words, or empty.
        param: The field of the request that it names, or empty.
    """

    status: int | None
    code: str
    message: str
    param: str = ""

    @classmethod
    def of_body(cls, status: int | None, body: object) -> ServiceError:
        """Read an error from the body of an answer, whatever its shape."""
        code, kind = error_field(body, "code"), error_field(body, "type")
        # Some leave the code empty and put it where the class of the error stands.
        code = code or (kind if kind in _QUOTA else "")
        return cls(status, code, error_message(body), error_field(body, "param"))

    @property
    def is_quota(self) -> bool:
        """Whether it is about what the account may spend."""
        if self.code in _QUOTA or "quota" in self.code.lower() or self.status == 402:
            return True
        spoken = not self.code or self.code.isdigit()
        return spoken and self.status in (429, None) and "quota" in self.message.lower()

    @property
    def passes(self) -> bool:
        """Whether it is no answer, or may be gone at the next try: overload, the server's faults.

        A redirection says neither yes nor no: what stands before the service may send one when the
        service has done what it was asked.
        """
        status = self.status or 0
        busy = status in (408, 409, 429) and not self.is_quota
        return busy or status >= 500 or 0 < status < 400
