"""affpipe: talking-face videos in, per-frame affect predictions out, in stages that can be rerun one at a time."""

import os

__version__ = "0.1.0"

# HDF5 locks what it opens, and some file systems have no locks. A stream is written under a name of its own, and not once it has its name;
# meanwhile `disk.atomic` holds the lock, which HDF5 would want too.
# Set before h5py is imported: HDF5 asks but once, and refuses a file that is open with another choice already.
os.environ["HDF5_USE_FILE_LOCKING"] = "FALSE"
