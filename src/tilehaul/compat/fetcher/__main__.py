import sys

from tilehaul.compat.fetcher.benchmark import main

sys.exit(main())
