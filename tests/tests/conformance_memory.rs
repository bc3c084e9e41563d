//! The conformance suite on the simulator's engine in memory: what the simulator shakes is true to the contract.

broker::conformance_suite!(memory, tests::simulator::memory::MemoryHarness::new());
