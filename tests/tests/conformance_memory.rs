//! The conformance suite on the simulator's engine in memory, and on the same one as a process reaches it when nothing
//! goes wrong: what the simulator shakes is true to the contract.

use tests::simulator::memory::MemoryHarness;

broker::conformance_suite!(memory, MemoryHarness::near());
broker::conformance_suite!(distant_memory, MemoryHarness::distant());
