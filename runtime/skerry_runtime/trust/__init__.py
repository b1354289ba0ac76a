"""Who vouches for a model, and who may read it: signatures, and files for few eyes. Pure.

Nothing of it is imported by a pod that has nothing to verify and nothing to decrypt.
"""
