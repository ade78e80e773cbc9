"""The submission relay, without a socket: grammar, session, message stream, policy, bundles. Pure."""
