"""Every use of a private name of a library, each with the test that fails when the library changes it."""
