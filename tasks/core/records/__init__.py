"""What the run page says, as Markdown made from verdicts, decisions and errors."""
