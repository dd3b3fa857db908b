"""The public functions, called as the commands are; the commands and these run the same code below.

``clipbias/__init__.pyi`` lists what is public.
"""
