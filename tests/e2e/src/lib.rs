//! End-to-end tests: our programs against a real API server, the official clients and a simulated
//! Foundry. There is nothing here but `tests/`; what they share is in `tests-support`.
