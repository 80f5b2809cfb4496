//! How every plot's page begins: the size, the type, and colours that can be read on light and dark
//! pages alike.

/// The opening of a page so wide and so high; what is drawn on it follows, then `</svg>`.
pub fn begin(width: f64, height: f64) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
         font-family=\"system-ui, sans-serif\" font-size=\"12\">\n\
         <style>text{{fill:#1f2937}}.rule{{stroke:#9ca3af;stroke-opacity:.4}}.whisker{{stroke:#111827}}\
         .paper{{fill:#fff}}@media(prefers-color-scheme:dark){{text{{fill:#e5e7eb}}.paper{{fill:#111827}}\
         .whisker{{stroke:#f9fafb}}}}</style>\n\
         <rect class=\"paper\" width=\"{width}\" height=\"{height}\"/>\n"
    )
}
