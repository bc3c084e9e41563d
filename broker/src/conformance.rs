//! The conformance suite: the ports' contracts in executable form.
