"""The scoring service against the servers that a team would otherwise take."""
