"""What the platform declares, tested against Pulumi's mocks: no account, no network."""
