"""Fakes that many tests share: a clock of virtual time, a scripted wire, a store in memory."""
