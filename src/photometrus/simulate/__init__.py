"""Makes what the telescope makes; shares no code with the stages it tests."""
