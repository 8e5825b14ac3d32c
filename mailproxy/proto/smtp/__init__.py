"""SMTP words that Submission and LMTP share: `wire` (lines, replies, parameters), `message` (dots and chunks)."""
