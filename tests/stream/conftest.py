import sys
from pathlib import Path

# The fleet of these tests is a module beside them.
sys.path.insert(0, str(Path(__file__).parent))
