"""Level values: every weight is read once, and all rules look at what that told.

scan        hands lots of modules to threads, in the order of the files
read_ahead  asks the system to read what is next from the disk
lots        reads a lot: weights piece by piece as they are counted, small tensors whole
kernels     the compiled loops; integers, words: what they tell of a weight, and the plain form
blocks      the 4 KiB blocks of the file that a tensor covers
modules     what a rule sees: one module, its tensors, its statistics
kinds       what the modules of a class have in common
forms       how a weight holds integers
stacks      small modules of one class as one: most rules find nothing, and need not ask each
"""
