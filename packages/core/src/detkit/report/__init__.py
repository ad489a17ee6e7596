"""What an evaluation found as one HTML file that opens in any browser: figures, and the page that shows them."""
