"""tilehaul moves map imagery from where it lives to where it is needed.

Public names are loaded when they are first used, so that `import tilehaul`
costs next to nothing in a program that has its own start-up time.
"""

__version__ = "0.1.0"
