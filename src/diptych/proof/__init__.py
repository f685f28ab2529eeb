"""The proof: what is wrong with a derivative, and what would make it right.

`check` takes a function and one example. A `Target` is what was handed in, a `Subject` the target
at one point on one framework. A `Reference` says what the derivative should be, a claim compares,
`diagnosis` says in which way it differs, and a `Report` is what a person reads.
"""
