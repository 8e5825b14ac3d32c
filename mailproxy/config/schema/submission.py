"""Settings of the Submission dialogue before login."""

from __future__ import annotations

from dataclasses import dataclass

from mailproxy.config.schema.define import size, text


@dataclass(frozen=True, slots=True)
class SubmissionSettings:
    submission_backend_capabilities: str = text()
    submission_client_workarounds: str = text()
    submission_max_mail_size: int = size("0")
