"""The HTTP endpoint at which a person consents, and its pages."""
