"""The resource kinds: their fields, conditions and reasons, and the CRDs rendered from them."""
