"""The public functions, called as the commands are; the commands and these run the same code below.

``clipbias/__init__.pyi`` lists what is public.
"""

import warnings

# Packages below import tqdm.auto, which warns in notebooks without ipywidgets; clipbias draws its own bar.
warnings.filterwarnings("ignore", "IProgress not found")
