"""The selective scan of Mamba (Gu and Dao, 2023, algorithm 2)."""
